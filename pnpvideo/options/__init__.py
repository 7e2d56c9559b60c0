"""What can be chosen, with its limits and defaults; it knows no torch."""
