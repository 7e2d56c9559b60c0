"""Finding, identifying, checking and merging of model files. Does not use clips or sampling."""

# Must come before any import of diffusers' pipelines here: it hides a notice that they print.
import pnpvideo.models  # noqa: F401
