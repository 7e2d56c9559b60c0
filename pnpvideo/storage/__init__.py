"""What outlives a step. Knows no model and no sampling."""
