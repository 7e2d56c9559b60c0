"""Decoding of a picture's values as its file stores them: indices, all bits, and opacity."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pnpvideo.clips.read_options import ReadOptions
from pnpvideo.clips.stills.decode_image import counts_from_white, decoding
from pnpvideo.clips.stored import STORED, Stored

_DEEP = ("I", "F")


def decode_stored(image: Image.Image, path: Path, options: ReadOptions) -> Stored:
    """Return the values of an open picture's current frame, upright, without a colour conversion.

    Raise InputError if it is damaged.
    """
    with decoding(image, path, options):
        return stored_values(image)


def stored_values(image: Image.Image) -> Stored:
    """Return the values of a loaded picture (see `Stored`)."""
    turned: Image.Image = ImageOps.exif_transpose(image)
    if (deep := image.info.get(STORED)) is not None and image.getexif().get(0x0112, 1) == 1:
        return Stored(values=deep)
    if turned.mode.startswith(_DEEP):
        return _deep(turned, negative=counts_from_white(image))
    if turned.mode == "P" and turned.palette is not None and turned.palette.mode == "RGB":
        return _indexed(turned)
    if turned.mode in ("1", "L"):
        values = np.array(turned.convert("L"), np.uint8)
        return Stored(values=values, alpha=_transparent_value(turned, values))
    if turned.mode in ("LA", "La"):
        grey, alpha = turned.convert("LA").split()
        return Stored(values=np.array(grey, np.uint8), alpha=np.array(alpha, np.uint8))
    if turned.mode in ("RGBA", "RGBa", "P", "PA") or "transparency" in turned.info:
        rgba = np.array(turned.convert("RGBA"), np.uint8)
        return Stored(values=rgba[..., :3], alpha=rgba[..., 3])
    return Stored(values=np.array(turned.convert("RGB"), np.uint8))


def _deep(image: Image.Image, *, negative: bool) -> Stored:
    values: NDArray[np.generic] = np.asarray(image)
    if image.mode != "F" and values.min(initial=0) >= 0 and values.max(initial=0) < 65536:
        values = values.astype(np.uint16)
    alpha = _transparent_value(image, values)
    if negative and values.dtype == np.uint16:
        values = np.subtract(65535, values, dtype=np.uint16)
    return Stored(values=values, alpha=alpha)


def _indexed(image: Image.Image) -> Stored:
    indices = np.array(image, np.uint8)
    palette = np.zeros((256, 3), np.uint8)
    colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)[:256]
    palette[: len(colours)] = colours
    transparent = image.info.get("transparency")
    opacity = np.full(256, 255, np.uint8)
    if isinstance(transparent, bytes):
        opacity[: len(transparent)] = np.frombuffer(transparent, np.uint8)
    elif isinstance(transparent, int):
        opacity[transparent] = 0
    alpha = None if transparent is None else opacity[indices]
    return Stored(values=indices, palette=palette, alpha=alpha)


def _transparent_value(image: Image.Image, values: NDArray[np.generic]) -> NDArray[np.uint8] | None:
    """Return the opacity of a picture of which one value is transparent; None if none is."""
    value = image.info.get("transparency")
    if not isinstance(value, int):
        return None
    return np.where(values == value, 0, 255).astype(np.uint8)
