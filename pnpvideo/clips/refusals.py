"""Checks and errors for sources that are refused: damaged, too large, or raw camera photos."""

from pathlib import Path

from PIL import Image

from pnpvideo.errors import InputError
from pnpvideo.files.available_memory import available_memory

_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf"),
    *(".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf"),
    *(".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)


def damaged(path: Path, reason: str, readable: int) -> InputError:
    """Return the error for a damaged source whose first `readable` frames can be read."""
    if readable == 0:
        remedy = "no frame can be read"
    elif readable == 1:
        remedy = "its first frame can be read; --allow-truncated uses it"
    else:
        remedy = f"its first {readable} frames can be read; --allow-truncated uses them"
    return InputError(f"{path} is cut off or damaged ({reason}): {remedy}")


def check_memory(size: tuple[int, int], path: Path, *, bytes_a_pixel: int = 20) -> None:
    """Raise InputError unless a picture of this width and height fits in memory.

    bytes_a_pixel: memory until the picture is converted and laid on a background; measured for 8
    bits: 15 to 17.
    """
    width, height = size
    needed, free = width * height * bytes_a_pixel, available_memory()
    if needed > free:
        raise InputError(
            f"{path} has {width}x{height} pixels; reading it takes {needed / 2**30:.1f} GiB of "
            f"memory, and {free / 2**30:.1f} GiB are free: make it smaller"
        )


def raw_photo(path: Path) -> InputError:
    """Return the error for a raw photo, whose preview is small and whose pixels need developing."""
    return InputError(
        f"{path} is a raw camera photo, which must be developed first: export it as TIFF, PNG or "
        "JPEG, and use that"
    )


def is_raw_name(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES


def is_raw_preview(image: Image.Image, path: Path) -> bool:
    """Return whether an opened TIFF's first picture is only a preview of the real one."""
    tags = getattr(image, "tag_v2", {})
    # 254: the kind of picture, bit 1 for a reduced one. 50706: the DNG version.
    if tags.get(254, 0) & 1 or 50706 in tags:
        return True
    with path.open("rb") as file:
        return file.read(10)[8:] == b"CR"  # Canon's.
