"""What moves where, in pixels; it knows no torch."""
