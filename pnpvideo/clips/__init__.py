"""Reading and writing of frames and sound. Does not use models or import torch."""

# Must come before decord, whose old codecs would take precedence over those of later imports.
import av  # noqa: F401
