"""Where the model of a name is: in the package, in a folder or file, or on the hub."""

from pathlib import Path

from pnpvideo.options.paths import expanded
from pnpvideo.options.values import EMBEDDED_MODEL

EMBEDDED = Path(__file__).parent.parent / "embedded"


def model_folder(model: str) -> Path | None:
    """Return the folder of a model that is on this machine; None for files and the hub's models."""
    path = EMBEDDED if model == EMBEDDED_MODEL else expanded(model)
    return path if path.is_dir() else None
