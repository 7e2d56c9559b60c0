"""Decoding of pictures with more than 8 bits a channel, of which Pillow keeps 8."""

import contextlib
import io

import cv2
import imagecodecs
import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image, ImageOps

_ORIENTATION = 0x0112


def deep_pixels(image: Image.Image, data: bytes) -> NDArray[np.uint16] | None:
    """Return the colours (height, width, 3) of an opened file, upright, with 16 bits.

    data: the file. Return None if it has no more than 8 bits, or cannot be read so.
    """
    # Whatever the other decoders raise, Pillow's 8 bits remain.
    with contextlib.suppress(Exception):
        read = {"PNG": _png, "AVIF": _heif, "HEIF": _heif}.get(image.format or "")
        pixels = None if read is None else read(data, image.format == "AVIF")
        if pixels is not None:
            pixels = _upright(pixels, image.getexif().get(_ORIENTATION, 1))
        return pixels
    return None


def _png(data: bytes, _: bool) -> NDArray[np.uint16] | None:
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        return None
    return _colours(np.asarray(values, np.uint16))[..., ::-1]  # OpenCV puts blue first.


def _heif(data: bytes, is_avif: bool) -> NDArray[np.uint16] | None:
    file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    bits = int(file.info["bit_depth"])
    if bits <= 8:
        return None
    # imagecodecs keeps the bits at the low end, and pillow-heif at the high end.
    values = imagecodecs.avif_decode(data) if is_avif else np.asarray(file)
    white = (2**bits - 1) << (0 if is_avif else 16 - bits)
    if values.dtype != np.uint16 or values.ndim != 3:
        return None
    scaled = np.rint(_colours(values) * (65535 / white))
    return np.asarray(scaled.clip(0, 65535), np.uint16)


def _colours(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return colours without alpha, also of grey."""
    values = values[..., np.newaxis] if values.ndim == 2 else values
    return np.repeat(values[..., :1], 3, axis=-1) if values.shape[-1] < 3 else values[..., :3]


def _upright(pixels: NDArray[np.uint16], orientation: int) -> NDArray[np.uint16]:
    planes = []
    for channel in range(3):
        plane = Image.fromarray(np.ascontiguousarray(pixels[..., channel]))
        plane.getexif()[_ORIENTATION] = orientation
        planes.append(np.asarray(ImageOps.exif_transpose(plane), np.uint16))
    return np.stack(planes, axis=-1)
