"""Cameras' raw photos: what they are known by, and what is said of them."""

from pathlib import Path

from PIL import Image

from pnpvideo.errors import InputError

_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf"),
    *(".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf"),
    *(".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
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
