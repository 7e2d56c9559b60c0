"""Conversion of pictures in memory, in any form that a Python user may have, to frames."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from pnpvideo.clips.clip import Frames
from pnpvideo.clips.stills.decode_image import can_be_transparent, with_eight_bits
from pnpvideo.errors import InputError

Pictures = Image.Image | ArrayLike | Sequence["Pictures"]
"""PIL images of any mode; arrays (height, width, 3) or (frames, height, width, 3), or with the
channels before height and width; a batch of one video; or a list of these. Values are uint8, or
0 to 1."""

# Rounding to 8 bits hides an excess this small.
_TOLERANCE = 0.5 / 255


def as_frames(pictures: Pictures) -> Frames:
    """Return uint8 of shape (count, height, width, 3). Transparent pixels are laid on white.

    Raise InputError (a ValueError) if the values are outside the range and would be clipped.
    """
    if isinstance(pictures, Image.Image):
        return _of_image(pictures)
    if isinstance(pictures, list | tuple):
        return _of_list(pictures)
    return _of_array(np.asarray(pictures))


def _of_list(pictures: Sequence[Pictures]) -> Frames:
    if len(pictures) == 0:
        raise InputError("there are no frames")
    if isinstance(pictures[0], list | tuple):
        if len(pictures) > 1:
            raise InputError(f"there are {len(pictures)} lists of frames; give one of them")
        return as_frames(pictures[0])
    frames = [as_frames(picture) for picture in pictures]
    sizes = {batch.shape[1:3] for batch in frames}
    if len(sizes) > 1:
        raise InputError(f"the frames have {len(sizes)} different sizes; give frames of one size")
    return np.concatenate(frames)


def _of_image(image: Image.Image) -> Frames:
    image = with_eight_bits(image, "the image")
    if can_be_transparent(image):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))[np.newaxis]


def _of_array(values: NDArray[np.generic]) -> Frames:
    shape = values.shape
    if values.ndim == 5 and len(values) == 1:
        values = values[0]
    if values.ndim == 3:
        values = values[np.newaxis]
    if values.ndim == 4 and values.shape[-1] != 3:
        values = np.moveaxis(values, -3, -1)
    if values.ndim != 4 or values.shape[-1] != 3 or 0 in values.shape:
        raise InputError(
            f"frames have shape {shape}, not (frames, height, width, 3), (height, width, 3) or "
            "(frames, 3, height, width)"
        )
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    if values.dtype.kind not in "fiu":
        raise InputError(f"the frames have type {values.dtype}; give uint8, or numbers from 0 to 1")
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind in "iu":
        if low < 0 or high > 255:
            raise InputError(f"the frames' whole numbers go from {low:g} to {high:g}, not 0 to 255")
        return values.astype(np.uint8)
    if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
        raise InputError(_wrong_range(low, high))
    frames: Frames = (np.clip(values, 0, 1) * 255).round().astype(np.uint8)
    return frames


def _wrong_range(low: float, high: float) -> str:
    message = f"the frames' values go from {low:.3g} to {high:.3g}, not from 0 to 1"
    if np.isnan(low):
        return "the frames have values that are not numbers (NaN)"
    if low >= -1 - _TOLERANCE and high <= 1 + _TOLERANCE:
        return f"{message}; if they are meant to go from -1 to 1, give frames / 2 + 0.5"
    if low >= 0 and 2 < high <= 255.5:
        return f"{message}; if they are meant to go from 0 to 255, give frames / 255, or uint8"
    return f"{message}; scale or clip them"
