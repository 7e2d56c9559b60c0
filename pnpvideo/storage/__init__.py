"""What outlives a step; it knows no model and no sampling."""
