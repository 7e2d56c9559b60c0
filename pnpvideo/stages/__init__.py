"""Each stage of the path with a model. Knows no output file and no command."""

# Before any file here imports diffusers' pipelines: it hides a notice that they print.
import pnpvideo.models  # noqa: F401
