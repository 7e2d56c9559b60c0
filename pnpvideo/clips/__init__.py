"""Frames and sound in and out of files. Knows no model and imports no torch."""

# Before decord, which puts its old codecs ahead of those of whatever is loaded after it.
import av  # noqa: F401
