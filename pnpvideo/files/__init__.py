"""Files that appear whole or not at all, and who holds them. Knows no clip and no model."""
