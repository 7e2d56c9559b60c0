"""Checks and errors for sources that are refused: damaged, too large, or raw camera photos."""

from pathlib import Path

from PIL import Image

from pnpvideo.errors import InputError
from pnpvideo.files.available_memory import available_memory

# Of the largest allowed picture, for all copies that are made of it until it has 8 bits: enough for
# four values of 32 bits a pixel, scaled in float64.
_MOST_BYTES_A_PIXEL = 200

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


def check_pixels(size: tuple[int, int], path: Path, max_pixels: int) -> None:
    """Raise InputError if a picture of this width and height has too many pixels."""
    width, height = size
    if width * height > max_pixels:
        raise too_many_pixels(path, f"{width}x{height}", max_pixels)


def too_many_pixels(path: Path, pixels: str, max_pixels: int) -> InputError:
    """Return the error for a picture that is too large."""
    return InputError(
        f"{path} has {pixels} pixels, and the limit is {max_pixels} (--max-pixels); give a smaller "
        "one"
    )


def beyond_memory(path: Path) -> InputError:
    """Return the error for a source that does not fit in memory, if it is as large as it says."""
    return InputError(
        f"{path} cannot be read: it needs more memory than there is; give a smaller one"
    )


def cut_picture(path: Path, error: Exception) -> InputError:
    """Return the error for a picture that can still be read in part."""
    return InputError(
        f"{path} is cut off or damaged: {reason(error)}; --allow-truncated uses what can be read"
    )


def reason(error: Exception) -> str:
    """Return an exception's message on one line."""
    if isinstance(error, MemoryError | OverflowError):  # Damage has made a number too large.
        return "it needs more memory than there is"
    return (str(error).splitlines() or [type(error).__name__])[0]


def check_memory(
    size: tuple[int, int], path: Path, max_pixels: int, *, bytes_a_pixel: int = 20
) -> None:
    """Raise InputError unless a picture of this width and height is allowed and fits in memory.

    bytes_a_pixel: memory until the picture is converted and laid on a background; measured for 8
    bits: 15 to 17.
    """
    check_pixels(size, path, max_pixels)
    width, height = size
    needed = width * height * bytes_a_pixel
    check_bytes(needed, path, max_pixels, f"has {width}x{height} pixels; reading it")


def check_bytes(needed: int, path: Path, max_pixels: int, what: str) -> None:
    """Raise InputError if something in a file needs more memory than is free, or than is allowed
    for pictures of `max_pixels`. what: the beginning of a sentence about the file.
    """
    free, most = available_memory(), max_pixels * _MOST_BYTES_A_PIXEL
    limit = (
        f"the limit is {_memory_text(most)}" if needed > most else f"{_memory_text(free)} are free"
    )
    if needed > min(free, most):
        raise InputError(
            f"{path} {what} takes {_memory_text(needed)} of memory, and {limit}: make it smaller"
        )


def _memory_text(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


# The first bytes of documents and drawings, in which a reader of videos may find pictures.
_DOCUMENTS = {
    b"%PDF-": "a PDF document",
    b"%!PS": "a PostScript document",
    b"\xc5\xd0\xd3\xc6": "a PostScript document",
    b"AT&TFORM": "a DjVu document",
    b"PK\x03\x04": "a ZIP archive or an office document",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an office document",
    b"{\\rtf": "a text document (RTF)",
    b"Rar!\x1a\x07": "a RAR archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\x1f\x8b": "a compressed archive (gzip)",
}


def check_document(path: Path, head: bytes) -> None:
    """Raise InputError if a file is a document, a drawing or an archive. head: its first bytes."""
    text = head.lstrip(b"\xef\xbb\xbf\0\t\r\n ")
    kind = next((what for mark, what in _DOCUMENTS.items() if text.startswith(mark)), None)
    if kind is None and b"%PDF-" in head:  # Readers take a PDF with something before it.
        kind = "a PDF document"
    lower = text.lower()
    if kind is None and lower.startswith((b"<!doctype html", b"<html", b"<svg", b"<?xml")):
        kind = "a drawing (SVG)" if b"<svg" in lower else "a web page or an XML document"
    if kind is not None:
        raise InputError(
            f"{path} is {kind}, not a picture or a video; save what you need of it as PNG or JPEG"
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
