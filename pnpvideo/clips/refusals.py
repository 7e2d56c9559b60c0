"""Sources that are refused: damaged ones, too large ones, and raw photos of cameras."""

from pathlib import Path

from PIL import Image

from pnpvideo.errors import InputError
from pnpvideo.files.available_memory import available_memory

_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf"),
    *(".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf"),
    *(".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)


def damaged(path: Path, why: str, readable: int) -> InputError:
    """The error for a source of which the first `readable` frames can be read."""
    if readable == 0:
        told = "no frame can be read"
    elif readable == 1:
        told = "its first frame can be read; --allow-truncated uses it"
    else:
        told = f"its first {readable} frames can be read; --allow-truncated uses them"
    return InputError(f"{path} is cut off or damaged ({why}): {told}")


def check_memory(size: tuple[int, int], path: Path, *, bytes_a_pixel: int = 20) -> None:
    """InputError unless the memory holds a picture of this width and height.

    bytes_a_pixel: taken until it is converted and laid on a background; measured for 8 bits: 15 to
    17.
    """
    width, height = size
    needed, free = width * height * bytes_a_pixel, available_memory()
    if needed > free:
        raise InputError(
            f"{path} has {width}x{height} pixels; to read it takes {needed / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB are free: make it smaller"
        )


def raw_photo(path: Path) -> InputError:
    """The error for a raw photo. Its preview is small, and its pixels are to be developed."""
    return InputError(
        f"{path} is a camera's raw photo, which must be developed first: export it as TIFF, PNG or "
        "JPEG, and give that"
    )


def is_raw_name(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES


def is_raw_preview(image: Image.Image, path: Path) -> bool:
    """Whether an opened TIFF's first picture is a smaller version of the one that is meant."""
    tags = getattr(image, "tag_v2", {})
    # 254: what kind of picture it is, 1 a reduced one. 50706: the version of DNG.
    if tags.get(254, 0) & 1 or 50706 in tags:
        return True
    with path.open("rb") as file:
        return file.read(10)[8:] == b"CR"  # Canon's.
