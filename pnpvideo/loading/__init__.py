"""A model's files: found, told apart, checked and merged. Knows no clip and no sampling."""

# Before any file here imports diffusers' pipelines: it hides a notice that they print.
import pnpvideo.models  # noqa: F401
