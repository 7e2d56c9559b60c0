"""Frames in and out of files; it knows no model."""

# Before decord, which puts its old codecs ahead of those of whatever is loaded after it.
import av  # noqa: F401
