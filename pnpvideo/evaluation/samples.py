"""An item's pictures at hand: what measures are given."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pnpvideo.clips.clip import Clip, Frames
from pnpvideo.clips.read import read_clip
from pnpvideo.errors import InputError
from pnpvideo.evaluation.items import Item
from pnpvideo.evaluation.masks import Masks
from pnpvideo.evaluation.pixel_shift import Shifts, pixel_shifts
from pnpvideo.evaluation.prepare import fitted


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Frames uint8 (n, height, width, 3) of source, result and reference, masks (n, height, width).

    result: at its own size; `fitted` has it at the source's.
    """

    item: Item
    source: Frames
    result: Frames
    mask: Masks | None
    reference: Frames | None

    @property
    def fitted(self) -> Frames:
        _, height, width, _ = self.source.shape
        return fitted(self.result, width, height)

    @cached_property
    def shifts(self) -> Shifts:
        """How far the result lies beside its source, which several columns tell of."""
        return pixel_shifts(self.fitted, self.source, self.mask)


@dataclass(frozen=True, kw_only=True)
class FrameRange:
    """Which frames of clips count: every `stride`-th, at most `count`."""

    stride: int
    count: int | None


def read_sample(
    item: Item, source: Path, result: Path, frames: FrameRange, *, crop: bool = False
) -> Sample:
    """The pictures of an item. The shorter of source and result counts.

    crop: whether a result that is not square while its source is shows the source's square at its
    right bottom, as PIE-Bench's code has it. InputError for what cannot be read.
    """
    pictures = read_frames(source, frames)
    found = read_frames(result, frames)
    count = min(len(pictures), len(found))
    pictures, found = pictures[:count], found[:count]
    _, height, width, _ = pictures.shape
    if crop and height == width and found.shape[1] != found.shape[2]:
        found = found[:, max(0, found.shape[1] - height) :, max(0, found.shape[2] - width) :]
    mask = None
    if item.mask is not None:
        chosen = slice(None, None, frames.stride)
        mask = item.mask.read((count - 1) * frames.stride + 1, width, height)[chosen]
    reference = None if item.reference is None else read_frames(item.reference, frames)
    return Sample(
        item=item,
        source=pictures,
        result=np.ascontiguousarray(found),
        mask=mask,
        reference=None if reference is None else reference[:count],
    )


def read_frames(path: Path, frames: FrameRange) -> Frames:
    """All frames that count of a picture, clip or folder. InputError where there are none."""
    return with_clip(path, frames, lambda clip: clip.read(0, len(clip)))


def with_clip(path: Path, frames: FrameRange, use: Callable[[Clip], Frames]) -> Frames:
    """What is made of a clip, which is closed again."""
    if not path.exists():
        raise InputError(f"{path} is missing")
    clip = read_clip(path, stride=frames.stride, frames=frames.count)
    try:
        return use(clip)
    finally:
        clip.close()
