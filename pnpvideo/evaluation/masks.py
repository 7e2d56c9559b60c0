"""Masks of what is to be edited, in the forms that benchmarks publish them in."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pnpvideo.clips.stills.decode_image import BROKEN, open_image
from pnpvideo.errors import InputError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Of files that benchmarks and methods keep pictures in."""

Masks = NDArray[np.bool_]
"""(frames, height, width), True where a frame is to be edited."""


class MaskSource(ABC):
    """A mask that is read when it is asked for."""

    @abstractmethod
    def read(self, frames: int, width: int, height: int) -> Masks:
        """At a clip's number of frames and size. InputError where it does not fit."""


@dataclass(frozen=True, kw_only=True)
class RunLengths(MaskSource):
    """PIE-Bench's form (Ju et al. 2024): start, length, start, length, ... of runs over the pixels
    in rows. Lengths end with the picture, and its outermost rows and columns are always edited, as
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
        return np.broadcast_to(_fitted(mask, width, height), (frames, height, width))


def check_runs(runs: Sequence[int], side: int = 512) -> str | None:
    """What is wrong with run lengths, None where they can be read."""
    if len(runs) % 2:
        return f"its mask has {len(runs)} numbers, which are no pairs of start and length"
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        if not 0 <= start < side * side or length < 0:
            return f"its mask has a run of {length} at {start}, outside {side} x {side} pixels"
    return None


@dataclass(frozen=True, kw_only=True)
class MaskPictures(MaskSource):
    """A picture, or a folder with one for each frame: what is transparent is edited where there is
    transparency, otherwise what is brighter than `above` (of 255).
    """

    path: Path
    above: int = 127

    def read(self, frames: int, width: int, height: int) -> Masks:
        if not self.path.exists():
            raise InputError(f"the mask {self.path} is missing")
        if not self.path.is_dir():
            return np.broadcast_to(self._read(self.path, width, height), (frames, height, width))
        paths = sorted(p for p in self.path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
        if len(paths) < frames:
            raise InputError(f"{self.path} has {len(paths)} masks for {frames} frames")
        return np.stack([self._read(path, width, height) for path in paths[:frames]])

    def _read(self, path: Path, width: int, height: int) -> NDArray[np.bool_]:
        image = open_image(path)
        if image is None:
            raise InputError(f"the mask {path} is not an image")
        try:
            with image:
                if image.has_transparency_data:
                    mask = np.asarray(image.convert("RGBA"))[..., 3] < 128
                else:
                    mask = np.asarray(image.convert("L")) > self.above
        except BROKEN:
            raise InputError(f"the mask {path} is cut off or damaged") from None
        return _fitted(mask, width, height)


def _fitted(mask: NDArray[np.bool_], width: int, height: int) -> NDArray[np.bool_]:
    """At another size; nothing between edited and not edited."""
    if mask.shape == (height, width):
        return mask
    image = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(image, bool)
