"""Check of the tiles and strips of a TIFF that are pictures of another format, such as JPEG.

Such a picture states its own size: from a few bytes a decoder would make a vast picture, even if
the tile is small.
"""

import io
import warnings
from pathlib import Path

import tifffile
from PIL import Image

from pnpvideo.clips.stills.open_jxl import size_of_jxl
from pnpvideo.errors import InputError

# Compressions of plain bytes, by TIFF's numbers. Their decoders stop at the size of the tile.
_PLAIN = frozenset({1, 2, 3, 4, 5, 8, 32771, 32773, 32909, 32946, 34925, 34926, 50000})
_FORMATS = ["PNG", "WEBP", "JPEG2000"]
# Enough for the headers of each.
_HEAD = 2**16
# Pictures may be filled up to whole blocks.
_BLOCK = 16
# JPEG's markers that the size follows.
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def check_segments(page: tifffile.TiffPage, path: Path) -> None:
    """Raise InputError if a picture in a tile or strip is larger than that, or of unknown size."""
    if int(page.compression) in _PLAIN:
        return
    if page.is_tiled:
        most = (page.tilewidth, page.tilelength)
    else:
        most = (page.imagewidth, min(page.rowsperstrip or page.imagelength, page.imagelength))
    with path.open("rb") as file:
        for at, count in set(zip(page.dataoffsets, page.databytecounts, strict=False)):
            if count:
                file.seek(at)
                _check(file.read(min(count, _HEAD)), most, page, path)


def _check(head: bytes, most: tuple[int, int], page: tifffile.TiffPage, path: Path) -> None:
    size = _size_of(head)
    if size is None:
        name = getattr(page.compression, "name", page.compression)
        raise InputError(
            f"{path} is a TIFF of an unsupported kind ({name}); save it without compression"
        )
    if any(side > _BLOCK * -(-limit // _BLOCK) for side, limit in zip(size, most, strict=True)):
        raise InputError(
            f"{path} is damaged: a part of {most[0]}x{most[1]} pixels holds a larger picture; save "
            "it again"
        )


def _size_of(head: bytes) -> tuple[int, int] | None:
    """Return the size of a picture of any of these formats, from its headers."""
    size = size_of_jxl(head) or _size_of_jpeg(head)
    if size is not None:
        return size
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(head), formats=_FORMATS)
        return image.size
    except Image.DecompressionBombError:
        return (2**31, 2**31)
    except (OSError, SyntaxError, ValueError, TypeError):
        return None


def _size_of_jpeg(head: bytes) -> tuple[int, int] | None:
    """Return (width, height) of a JPEG with any number of bits, whose tables may be elsewhere."""
    at = 2 if head.startswith(b"\xff\xd8") else len(head)
    while at + 9 <= len(head) and head[at] == 0xFF:
        if head[at + 1] in _JPEG_SIZES:
            height, width = (
                int.from_bytes(head[at + 5 : at + 7]),
                int.from_bytes(head[at + 7 : at + 9]),
            )
            return width, height
        at += 2 + int.from_bytes(head[at + 2 : at + 4])
    return None
