"""Check of a TIFF's tags, which may ask for far more memory than the file has bytes."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pnpvideo.clips.refusals import check_bytes

# Bytes of a value, by the number of its type (TIFF 6.0 and BigTIFF).
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
_TILE_WIDTH, _TILE_LENGTH, _BITS, _SAMPLES = 322, 323, 258, 277
# Readers copy values several times, and make numbers of 32 bytes from them.
_COPIES = 32
_MOST_TAGS = 65_535


@dataclass(frozen=True, kw_only=True)
class _Tag:
    """A tag. size: of all its values, in bytes. first: its first value, if that is in the tag."""

    count: int
    size: int
    first: int


def check_tags(path: Path, max_pixels: int) -> None:
    """Raise InputError if the first picture of a TIFF has tags or tiles that are too large.

    Do nothing for other files, and for what is too damaged to be read.
    """
    with path.open("rb") as file:
        tags = _tags(file)
    length = path.stat().st_size
    # Different tags may refer to the same bytes.
    stored = sum(tag.size for tag in tags.values() if tag.size <= length)
    check_bytes(_COPIES * stored, path, max_pixels, "is a TIFF whose list of tags")
    if _TILE_WIDTH in tags and _TILE_LENGTH in tags:
        width, height = tags[_TILE_WIDTH].first, tags[_TILE_LENGTH].first
        samples = tags[_SAMPLES].first if _SAMPLES in tags else 1
        bits = tags[_BITS].first if _BITS in tags and tags[_BITS].count == 1 else 32
        needed = width * height * samples * max(1, bits // 8)
        check_bytes(needed, path, max_pixels, f"has tiles of {width}x{height} pixels; one of them")


def _tags(file: BinaryIO) -> dict[int, _Tag]:
    """Return the tags of the first directory by their numbers."""
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 16 or head[2:4] not in (b"*\0", b"\0*", b"+\0", b"\0+"):
        return {}
    big = b"+" in head[2:4]
    (at,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", head, 8 if big else 4)
    file.seek(min(at, 2**62))
    start = file.read(8 if big else 2)
    if len(start) < (8 if big else 2):
        return {}
    (count,) = struct.unpack(f"{order}{'Q' if big else 'H'}", start)
    entry = struct.Struct(f"{order}HHQ8s" if big else f"{order}HHI4s")
    stored = file.read(entry.size * min(count, _MOST_TAGS))
    tags: dict[int, _Tag] = {}
    for number, kind, many, value in entry.iter_unpack(
        stored[: len(stored) // entry.size * entry.size]
    ):
        (first,) = struct.unpack_from(f"{order}H" if kind == 3 else f"{order}I", value)
        tags[number] = _Tag(count=many, size=many * _SIZES.get(kind, 0), first=first)
    return tags
