"""Reading of JPEG XL pictures, which Pillow does not read (ISO/IEC 18181-1 and -2)."""

from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image

from pnpvideo.clips.refusals import check_memory
from pnpvideo.clips.stored import STORED, to_eight_bits
from pnpvideo.errors import InputError

_BARE, _BOXED = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_RATIOS = ((1, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
# A header is shorter.
_HEAD = 64


def open_jxl(path: Path, max_pixels: int) -> Image.Image | None:
    """Return a JPEG XL picture, upright, with 8 bits. Return None if the file is not one.

    Of an animation it is the first frame. Raise InputError if it cannot be used.
    """
    with path.open("rb") as file:
        start = file.read(len(_BOXED))
    if not start.startswith(_BARE) and start != _BOXED:
        return None
    data = path.read_bytes()
    try:
        size, is_animated = _header(_codestream(data))
        check_memory(size, path, max_pixels, bytes_a_pixel=100)
        values = imagecodecs.jpegxl_decode(data, index=0)
    except (imagecodecs.JpegxlError, ValueError, IndexError, RuntimeError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} is cut off or damaged: {reason}") from None
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[-1] not in _MODES):
        raise InputError(f"{path} is a JPEG XL of an unsupported kind; save it as PNG")
    pixels = to_eight_bits(values, path)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels, values = pixels[..., 0], values[..., 0]
    mode = _MODES[1 if pixels.ndim == 2 else pixels.shape[-1]]
    height, width = pixels.shape[:2]
    whole = np.ascontiguousarray(pixels).tobytes()
    image = Image.frombytes(mode, (width, height), whole)
    if mode == "L" and values.dtype != np.uint8:
        image.info[STORED] = values
    image.format = "JXL"
    image.is_animated = is_animated  # type: ignore[attr-defined]
    return image


def size_of_jxl(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) as shown of a JPEG XL; None if the data do not begin as one."""
    if not data.startswith((_BARE, _BOXED)):
        return None
    try:
        return _header(_codestream(data))[0]
    except ValueError:
        return None


def _codestream(data: bytes) -> bytes:
    """Return the beginning of a file's codestream, also if it is in the boxes of a container."""
    if data.startswith(_BARE):
        return data[:_HEAD]
    found, at = b"", 0
    while at + 8 <= len(data) and len(found) < _HEAD:
        size, name, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        end = len(data) if size == 0 else at + max(size, head)
        if name in (b"jxlc", b"jxlp"):
            begin = at + head + (4 if name == b"jxlp" else 0)
            found += data[begin : min(end, begin + _HEAD)]
        at = end
    return found


def _header(codestream: bytes) -> tuple[tuple[int, int], bool]:
    """Return (width, height) as shown, and whether it is animated (18181-1, annex D)."""
    if not codestream.startswith(_BARE):
        raise ValueError("it holds no picture")
    bits = _Bits(codestream[2:])
    width, height = _size(bits)
    if bits.read(1) or not bits.read(1):  # All as by default, or no other fields.
        return (width, height), False
    if bits.read(3) >= 4:  # Its sides are exchanged.
        width, height = height, width
    if bits.read(1):
        _size(bits)  # Another size to show it at.
    if bits.read(1):
        _skip_preview(bits)
    return (width, height), bool(bits.read(1))


def _size(bits: "_Bits") -> tuple[int, int]:
    small = bits.read(1)

    def side() -> int:
        if small:
            return 8 * (bits.read(5) + 1)
        return 1 + bits.read((9, 13, 18, 30)[bits.read(2)])

    height = side()
    ratio = bits.read(3)
    across, down = _RATIOS[ratio]
    return (side() if ratio == 0 else height * across // down), height


def _skip_preview(bits: "_Bits") -> None:
    counts = (0, 0, 5, 9) if bits.read(1) else (6, 8, 10, 12)
    bits.read(counts[bits.read(2)])
    if bits.read(3) == 0:
        bits.read(counts[bits.read(2)])


class _Bits:
    """A reader of numbers from bits, the lowest first."""

    def __init__(self, data: bytes) -> None:
        self._number, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def read(self, count: int) -> int:
        """Return the next number. ValueError if the data end before."""
        if count > self._left:
            raise ValueError("its end is missing")
        value = self._number & ((1 << count) - 1)
        self._number >>= count
        self._left -= count
        return value
