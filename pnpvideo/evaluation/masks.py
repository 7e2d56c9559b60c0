"""Masks of the part to edit, in the formats in which benchmarks publish them."""

import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pnpvideo.clips.clip import Clip
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.stored import Stored
from pnpvideo.errors import InputError
from pnpvideo.pixels.mask_values import read_values

_log = logging.getLogger(__name__)

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Suffixes of picture files in benchmarks and results."""

Masks = NDArray[np.bool_]
"""(frames, height, width), True at pixels to edit."""


class MaskSource(ABC):
    """A mask that is read on demand."""

    @abstractmethod
    def read(self, frames: int, width: int, height: int) -> Masks:
        """Read the masks at a clip's frame count and size. Raise InputError if they do not fit."""


@dataclass(frozen=True, kw_only=True)
class RunLengths(MaskSource):
    """Run lengths as in PIE-Bench (Ju et al. 2024): start, length, ... over the pixels by rows.

    Runs are cut at the picture's end. The outermost rows and columns always count as edited, as the
    annotations are wrong there.
    """

    runs: tuple[int, ...]
    side: int = 512

    def read(self, frames: int, width: int, height: int) -> Masks:
        mask = np.zeros((self.side, self.side), bool)
        for start, length in zip(self.runs[::2], self.runs[1::2], strict=True):
            mask.reshape(-1)[start : start + length] = True
        mask[[0, -1]] = True
        mask[:, [0, -1]] = True
        return np.broadcast_to(_resized_nearest(mask, width, height), (frames, height, width))


def check_runs(runs: Sequence[int], side: int = 512) -> str | None:
    """Return what is wrong with run lengths; None if they can be read."""
    if len(runs) % 2:
        return f"its mask has {len(runs)} numbers, which are not pairs of start and length"
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        if not 0 <= start < side * side or length < 0:
            return f"its mask has a run of {length} at {start}, outside {side} x {side} pixels"
    return None


@dataclass(frozen=True, kw_only=True)
class MaskPictures(MaskSource):
    """A mask picture or clip, or a folder with a picture for each frame (see `mask_values`).

    Pixels of a brightness above `above` (of 255) are edited. masked: whether a photo with
    transparent parts is a picture of what is edited there, and not a mask that was drawn.
    """

    path: Path
    above: int = 127
    masked: bool = False

    def read(self, frames: int, width: int, height: int) -> Masks:
        if not self.path.exists():
            raise InputError(f"the mask {self.path} is missing")
        with contextlib.closing(read_clip(self.path, background="black", frames=frames)) as clip:
            if (count := len(clip)) < frames and (count > 1 or self.path.is_dir()):
                raise InputError(f"{self.path} has {count} masks for {frames} frames")
            edited = self._edited(clip)
            small = np.stack([_resized_nearest(mask, width, height) for mask in edited])
        return np.broadcast_to(small, (frames, height, width))

    def _edited(self, clip: Clip) -> Iterator[NDArray[np.bool_]]:
        """Return where each frame of a mask is edited."""
        if self.masked and clip.has_alpha and _is_masked_photo(clip.read_stored(0)):
            return (clip.read_alpha(i, i + 1)[0] < 128 for i in range(len(clip)))
        mask, meaning = read_values(clip)
        if meaning.notice:
            _say(self.path.parent, meaning.notice)
        return (
            cv2.cvtColor(mask.read(i, i + 1)[0], cv2.COLOR_RGB2GRAY) > self.above
            for i in range(len(mask))
        )


def _is_masked_photo(stored: Stored) -> bool:
    """Return whether the opaque part of a picture has more colours than a mask that was drawn."""
    opaque = stored.pixels()[stored.opacity() == 255]
    return len(np.unique(opaque, axis=0)) > 2


@cache
def _say(folder: Path, notice: str) -> None:
    """Log what the values of a folder's masks mean, once."""
    _log.warning("masks in %s: each %s", folder, notice)


def _resized_nearest(mask: NDArray[np.bool_], width: int, height: int) -> NDArray[np.bool_]:
    """Return a mask at another size, without intermediate values."""
    if mask.shape == (height, width):
        return mask
    image = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(image, bool)
