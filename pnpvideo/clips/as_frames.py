"""Conversion of pictures in memory, in any form that a Python user may have, to frames."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from pnpvideo.clips.clip import Frames
from pnpvideo.clips.stills.decode_image import loaded_to_rgb
from pnpvideo.errors import InputError

Pictures = Image.Image | ArrayLike | Sequence["Pictures"]
"""PIL images of any mode; arrays (height, width, channels) or (frames, height, width, channels), or
with the channels before height and width; (height, width) of grey; a batch of one video, also with
the channels before the frames; or a list of these. Channels are 1, 3 or, last, 4. Values are uint8,
0 to 1, or bool."""

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


def only_list(pictures: Sequence[Pictures]) -> Sequence[Pictures]:
    """Return a list of frames, or the only one in a list of lists. InputError if it is empty."""
    if len(pictures) == 0:
        raise InputError("there are no frames")
    first = pictures[0]
    if not isinstance(first, list | tuple):
        return pictures
    if len(pictures) > 1:
        raise _several(len(pictures))
    return only_list(first)


def _several(clips: int) -> InputError:
    """Return the error for several clips in place of one, as the results of several prompts are."""
    return InputError(
        f"there are {clips} clips; give each in a call of its own, such as result.frames[0]"
    )


def _of_list(pictures: Sequence[Pictures]) -> Frames:
    frames = [as_frames(picture) for picture in only_list(pictures)]
    sizes = {batch.shape[1:3] for batch in frames}
    if len(sizes) > 1:
        raise InputError(f"the frames have {len(sizes)} different sizes; give frames of one size")
    return np.concatenate(frames)


def _of_image(image: Image.Image) -> Frames:
    rgb, alpha = loaded_to_rgb(image, "the image")
    if alpha is not None:
        rgb.putalpha(alpha)
        rgb = Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb)
    return np.asarray(rgb.convert("RGB"))[np.newaxis]


def _of_array(values: NDArray[np.generic]) -> Frames:
    shape = values.shape
    split = channels_last(values)
    if split is None:
        if values.ndim == 5 and channels_last(values[:1]) is not None:
            raise _several(len(values))
        raise InputError(
            f"frames have shape {shape}, not (frames, height, width, 3), (height, width, 3) or "
            "(frames, 3, height, width)"
        )
    frames = eight_bits(split)
    if frames.shape[-1] == 4:
        return np.concatenate([_of_image(Image.fromarray(frame)) for frame in frames])
    return np.repeat(frames, 3, axis=-1) if frames.shape[-1] == 1 else frames


def channels_last(
    values: NDArray[np.generic], *, first: bool = False
) -> NDArray[np.generic] | None:
    """Return an array as (frames, height, width, channels), of 1, 3 or 4 channels.

    first: whether channels that come first are likelier than channels that come last. Return None
    for other shapes, and for one that could be a single channel of several frames. InputError if
    frames and channels cannot be distinguished.
    """
    if 0 in values.shape or not 2 <= values.ndim <= 5:
        return None
    if values.ndim == 5:
        if len(values) != 1:
            return None
        if values.shape[1:3] == (3, 3) and (first or values.shape[-1] != 3):
            raise InputError(
                f"the frames have shape {values.shape}, where either 3 may be the channels; give "
                "(frames, height, width, 3), or PIL images"
            )
        values = values[0]
        if values.shape[0] == 1 and values.shape[1] != 3 and values.shape[-1] not in (1, 3, 4):
            grey: NDArray[np.generic] = values[0][..., np.newaxis]  # One channel, before frames.
            return grey
    elif values.ndim == 2:
        return values[np.newaxis, ..., np.newaxis]
    elif values.ndim == 3:
        values = values[np.newaxis]
    elif values.shape[-3] == 1 and values.shape[-1] not in (3, 4):
        # Three frames of grey, or three channels of a frame?
        return None if len(values) == 3 else np.moveaxis(values, -3, -1)
    before, last = values.shape[-3] == 3, values.shape[-1] in (3, 4)
    if last and not (first and before):
        return values
    if before:
        return np.moveaxis(values, -3, -1)
    if values.shape[-1] == 1:
        return values
    if values.shape[-4] == 3:
        return np.moveaxis(values, -4, -1)
    return np.moveaxis(values, -3, -1) if values.shape[-3] == 1 else None


def eight_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return numbers from 0 to 1, whole ones from 0 to 255, or bool as uint8.

    InputError for others, which would be clipped.
    """
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "fiu":
        raise InputError(f"the frames have type {values.dtype}; give uint8, or numbers from 0 to 1")
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind in "iu":
        if low < 0 or high > 255:
            raise InputError(f"the frames' whole numbers go from {low:g} to {high:g}, not 0 to 255")
        return values.astype(np.uint8)
    if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
        raise InputError(_wrong_range(low, high))
    frames: NDArray[np.uint8] = (np.clip(values, 0, 1) * 255).round().astype(np.uint8)
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
