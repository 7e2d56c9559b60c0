"""Files that appear whole or not at all, and locks on them. Does not use clips or models."""
