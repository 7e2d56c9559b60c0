"""Conversion of any mask that a Python user may have to a clip that keeps its values."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pnpvideo.clips.as_clip import Encoded, Video, array_of, file_clip
from pnpvideo.clips.as_frames import channels_last, eight_bits, only_list
from pnpvideo.clips.clip import Alpha, Clip, FrameReader, Frames
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.stills.decode_stored import stored_values
from pnpvideo.clips.stored import Stored
from pnpvideo.errors import InputError

_BACKGROUND = "black"


def as_mask(mask: Video) -> Clip:
    """Return a clip of a mask, in any form that a video may have, or (frames, height, width).

    `Clip.read_stored` gives its values. Raise InputError if it cannot be used.
    """
    if isinstance(mask, Clip):
        return mask
    if isinstance(mask, str | Path):
        return read_clip(mask, background=_BACKGROUND)
    pictures = only_list(mask) if isinstance(mask, list | tuple) else [mask]
    arrays = [array for array in map(_array, pictures) if array is not None]
    if len(arrays) == len(pictures):
        return _clip(_of_arrays(arrays))
    return _clip(list(chain.from_iterable(map(_stored, pictures))))


def _array(mask: object) -> NDArray[np.generic] | None:
    """Return a mask as (frames, height, width, channels); None for an image or a file."""
    if isinstance(mask, Image.Image | str | Path | Encoded):
        return None
    array = array_of(mask) if isinstance(mask, Tensor) else np.asarray(mask)
    shape = array.shape
    found: NDArray[np.generic] | None
    if (planes := _planes(array)) is not None:
        same = len(planes) == 3 and bool((planes == planes[:1]).all())
        found = planes[: 1 if same else None, ..., np.newaxis]
    else:
        found = channels_last(array, first=isinstance(mask, Tensor))
    if found is None:
        raise InputError(
            f"the mask has shape {shape}, not (height, width), (frames, height, width), (frames, "
            "height, width, channels) or (frames, channels, height, width)"
        )
    return found


def _planes(array: NDArray[np.generic]) -> NDArray[np.generic] | None:
    """Return an array of one channel as (frames, height, width); None if it has several.

    Three planes may be the channels of one frame: they are then the same, or as many frames as the
    source has.
    """
    while array.ndim > 3:
        length = next((axis for axis in (0, 1, 2, -1) if array.shape[axis] == 1), None)
        if length is None or (array.ndim == 4 and length != -1 and array.shape[-1] in (3, 4)):
            return None
        array = array.squeeze(length)
    if array.ndim == 3 and array.shape[-1] in (3, 4):
        return None
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    return array[np.newaxis] if array.ndim == 2 else array if array.ndim == 3 else None


def _of_arrays(arrays: Sequence[NDArray[np.generic]]) -> list[Stored]:
    """Return masks (frames, height, width, channels) frame by frame."""
    if len({array.shape[1:] for array in arrays}) > 1:
        raise InputError("the frames of the mask have different sizes; give frames of one size")
    values = np.concatenate(arrays)
    if values.dtype.kind not in "fiub":
        raise InputError(f"the mask has type {values.dtype}; give bool, uint8, or 0 to 1")
    if values.shape[-1] == 1:
        values, is_label = _numbers(values[..., 0])
        return [Stored(values=frame, is_label=is_label) for frame in values]
    pixels = eight_bits(values)
    opaque = pixels.shape[-1] == 3
    return [Stored(values=p[..., :3], alpha=None if opaque else p[..., 3]) for p in pixels]


def _numbers(values: NDArray[np.generic]) -> tuple[NDArray[np.generic], bool]:
    """Return single numbers, and whether they are labels for certain and not brightness."""
    if values.dtype == np.bool_ or values.dtype in (np.uint8, np.uint16):
        return values, False
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f" and not np.isnan(low):
        is_whole = high > 1 and bool((np.mod(values, 1) == 0).all())
        if not is_whole and len(np.unique(values)) > 2:
            eight_bits(values)  # Refuses other ranges.
            return np.clip(values, 0, 1), False
        if not is_whole:
            return values, False
        values = values.astype(np.int64)
    elif values.dtype.kind == "f":
        raise InputError("the mask has values that are not numbers (NaN)")
    if low >= 0 and high == 255:
        return values.astype(np.uint8), False
    return values.astype(np.int64), True


def _stored(picture: object) -> list[Stored]:
    """Return the frames of one picture of a list."""
    if isinstance(picture, Image.Image):
        picture.load()
        return [stored_values(picture)]
    if isinstance(picture, str | Path | Encoded):
        with file_clip(picture, background=_BACKGROUND) as clip:
            return [clip.read_stored(number) for number in range(len(clip))]
    array = _array(picture)
    assert array is not None
    return _of_arrays([array])


def _clip(stored: list[Stored]) -> Clip:
    sizes = {one.values.shape[:2] for one in stored}
    if len(sizes) > 1:
        raise InputError(
            f"the frames of the mask have {len(sizes)} different sizes; give frames of one size"
        )
    height, width = sizes.pop()
    transparent = any(one.alpha is not None for one in stored)
    reader = _StoredInMemory(stored)
    return Clip(reader=reader, width=width, height=height, has_alpha=transparent, name="given")


class _StoredInMemory(FrameReader):
    def __init__(self, stored: Sequence[Stored]) -> None:
        self._stored = stored

    def __len__(self) -> int:
        return len(self._stored)

    def read(self, start: int, stop: int) -> Frames:
        return np.stack([one.pixels() for one in self._stored[start:stop]])

    def read_alpha(self, start: int, stop: int) -> Alpha:
        return np.stack([one.opacity() for one in self._stored[start:stop]])

    def read_stored(self, number: int) -> Stored:
        return self._stored[number]
