"""What is told of a damaged source."""

from pathlib import Path

from pnpvideo.errors import InputError


def damaged(path: Path, why: str, readable: int) -> InputError:
    """The error for a source of which the first `readable` frames can be read."""
    if readable == 0:
        told = "no frame can be read"
    elif readable == 1:
        told = "its first frame can be read; --allow-truncated uses it"
    else:
        told = f"its first {readable} frames can be read; --allow-truncated uses them"
    return InputError(f"{path} is cut off or damaged ({why}): {told}")
