"""How fast and how large runs are, beside the plain method; it knows no training."""
