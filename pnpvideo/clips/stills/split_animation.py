"""Splitting of an animated GIF, PNG or WebP into its stored frames, each as a separate file.

Pillow composes frames itself, but not as browsers do: it fills disposed areas with a palette colour
(GIF) or black (opaque PNG or WebP), and keeps a PNG's still picture under its animation. FFmpeg
gets some of this right, but reads no animation behind a still picture and no animated WebP. So
Pillow decodes single pictures only.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction


class After(Enum):
    """The disposal of a frame's area when its time is over."""

    KEEP = "it stays as it is"
    CLEAR = "it becomes transparent"
    RESTORE = "it becomes what it was before the frame"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One frame: a picture for a part of the canvas.

    picture: a file of this picture alone. box: left, top, right, bottom on the canvas, in pixels.
    over: whether it is composited onto the canvas; otherwise it replaces what is there.
    """

    picture: bytes
    box: tuple[int, int, int, int]
    seconds: Fraction
    over: bool
    after: After


class CutError(EOFError):
    """An animation that is cut off or broken."""


def gif_parts(data: bytes) -> Iterator[Part]:
    """Yield the frames of a GIF (GIF89a specification)."""
    start = 13 + _table_size(data[10])
    at, control = start, b""
    while (kind := _byte(data, at)) != 0x3B:
        if kind == 0x21:
            end = _end_of_blocks(data, at + 2)
            if data[at + 1] == 0xF9:
                control = data[at:end]
            at = end
        elif kind == 0x2C and len(data) > at + 10:
            left, top, width, height, flags = struct.unpack_from("<4HB", data, at + 1)
            end = _end_of_blocks(data, at + 10 + _table_size(flags) + 1)
            size = struct.pack("<2H", width, height)
            place = struct.pack("<4H", 0, 0, width, height)
            head = b"GIF89a" + size + data[10:start] + control + b"," + place
            # Some writers use method 4 when they mean 3.
            method = (control[3] >> 2 & 7) if control else 0
            after = {2: After.CLEAR, 3: After.RESTORE, 4: After.RESTORE}.get(method, After.KEEP)
            hundredths = int.from_bytes(control[4:6], "little")
            yield Part(
                picture=head + data[at + 9 : end] + b";",
                box=(left, top, left + width, top + height),
                seconds=Fraction(hundredths, 100),
                over=True,
                after=after,
            )
            at, control = end, b""
        else:
            at += 1  # Some writers leave zeros between blocks.


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise CutError("its end is missing")
    return data[at]


def _table_size(flags: int) -> int:
    """Return the bytes of the colour table that a GIF's flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _end_of_blocks(data: bytes, at: int) -> int:
    """Return the position after a GIF's sub-blocks, the first of which is at `at`."""
    while size := _byte(data, at):
        at += size + 1
    return at + 1


# The chunks that all pictures of an animated PNG share.
_SHARED = (b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"iCCP", b"sRGB", b"sBIT", b"cICP")


def png_parts(data: bytes) -> Iterator[Part]:
    """Yield the frames of an animated PNG (PNG specification, third edition, section 11.3.4)."""
    head, shared, control, content = b"", b"", b"", b""
    at = 8
    while True:
        size, name = struct.unpack(">I4s", _slice(data, at, 8))
        body = _slice(data, at + 8, size)
        if zlib.crc32(name + body) != int.from_bytes(_slice(data, at + 8 + size, 4), "big"):
            raise CutError("a checksum is wrong")
        at += size + 12
        if name in (b"fcTL", b"IEND") and control:
            yield _png_part(head, shared, control, content)
        if name == b"IEND":
            return
        if name == b"fcTL":
            control, content = body, b""
        elif name == b"IHDR":
            head = body
        elif name in _SHARED:
            shared += _png_chunk(name, body)
        elif name == b"IDAT" and control:  # Before the first control, it is the still picture.
            content += body
        elif name == b"fdAT":
            content += body[4:]


def _png_part(head: bytes, shared: bytes, control: bytes, content: bytes) -> Part:
    width, height, left, top, numerator, denominator, after, blend = struct.unpack(
        ">4I2H2B", control[4:26]
    )
    chunks = _png_chunk(b"IHDR", control[4:12] + head[8:]) + shared + _png_chunk(b"IDAT", content)
    return Part(
        picture=b"\x89PNG\r\n\x1a\n" + chunks + _png_chunk(b"IEND", b""),
        box=(left, top, left + width, top + height),
        seconds=Fraction(numerator, denominator or 100),
        over=blend == 1,
        after={1: After.CLEAR, 2: After.RESTORE}.get(after, After.KEEP),
    )


def _png_chunk(name: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(name + body).to_bytes(4, "big")
    return len(body).to_bytes(4, "big") + name + body + checksum


def webp_parts(data: bytes) -> Iterator[Part]:
    """Yield the frames of an animated WebP (WebP container specification)."""
    end = 8 + int.from_bytes(data[4:8], "little")
    at = 12
    while at < end:
        name, size = struct.unpack("<4sI", _slice(data, at, 8))
        body = _slice(data, at + 8, size)
        at += 8 + size + size % 2
        if name != b"ANMF":
            continue
        fields = [int.from_bytes(body[i : i + 3], "little") for i in range(0, 15, 3)]
        left, top, width, height = 2 * fields[0], 2 * fields[1], fields[2] + 1, fields[3] + 1
        chunks = body[16:]
        if chunks[:4] == b"ALPH":  # Needs a VP8X chunk of 10 bytes first; flag 16 is transparency.
            chunks = b"VP8X\x0a\0\0\0\x10\0\0\0" + body[6:12] + chunks
        yield Part(
            picture=b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WEBP" + chunks,
            box=(left, top, left + width, top + height),
            seconds=Fraction(fields[4], 1000),
            over=not body[15] & 2,
            after=After.CLEAR if body[15] & 1 else After.KEEP,
        )


def _slice(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise CutError("its end is missing")
    return data[at : at + size]


SPLIT: dict[str | None, Callable[[bytes], Iterator[Part]]] = {
    "GIF": gif_parts,
    "PNG": png_parts,
    "WEBP": webp_parts,
}
"""Functions that split an animation, by Pillow's name of the format."""
