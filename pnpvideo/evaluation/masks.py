"""Masks of the part to edit, in the formats in which benchmarks publish them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pnpvideo.clips.stills.decode_image import DECODING_ERRORS, open_image
from pnpvideo.errors import InputError

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
    """A mask picture, or a folder with one for each frame.

    If it has transparency, transparent pixels are edited; otherwise those above `above` (of 255).
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
        except DECODING_ERRORS:
            raise InputError(f"the mask {path} is cut off or damaged") from None
        return _resized_nearest(mask, width, height)


def _resized_nearest(mask: NDArray[np.bool_], width: int, height: int) -> NDArray[np.bool_]:
    """Return a mask at another size, without intermediate values."""
    if mask.shape == (height, width):
        return mask
    image = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(image, bool)
