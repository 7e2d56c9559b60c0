"""Frames in and out of files; it knows no model."""
