"""An item's frames in memory, the input of measures."""

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
from pnpvideo.evaluation.prepare import resized_bicubic


@dataclass(frozen=True, kw_only=True)
class ItemFrames:
    """Frames uint8 (n, height, width, 3) of source, result and reference, masks (n, height, width).

    result: at its own size; `resized_result` has the source's size.
    """

    item: Item
    source: Frames
    result: Frames
    mask: Masks | None
    reference: Frames | None

    @property
    def resized_result(self) -> Frames:
        _, height, width, _ = self.source.shape
        return resized_bicubic(self.result, width, height)

    @cached_property
    def shifts(self) -> Shifts:
        """Return the displacement from the source, which several columns use."""
        return pixel_shifts(self.resized_result, self.source, self.mask)


@dataclass(frozen=True, kw_only=True)
class FrameRange:
    """The frames of clips to measure: every `stride`-th, at most `count`."""

    stride: int
    count: int | None


def read_item_frames(
    item: Item, source: Path, result: Path, frames: FrameRange, *, crop: bool = False
) -> ItemFrames:
    """Read the frames of an item, as many as the shorter of source and result has.

    crop: whether a result that is not square, of a square source, has the source's square at its
    bottom right, as in PIE-Bench's code. Raise InputError if a file cannot be read.
    """
    source_frames = read_frames(source, frames)
    result_frames = read_frames(result, frames)
    count = min(len(source_frames), len(result_frames))
    source_frames, result_frames = source_frames[:count], result_frames[:count]
    _, height, width, _ = source_frames.shape
    if crop and height == width and result_frames.shape[1] != result_frames.shape[2]:
        result_frames = result_frames[
            :, max(0, result_frames.shape[1] - height) :, max(0, result_frames.shape[2] - width) :
        ]
    mask = None
    if item.mask is not None:
        steps = slice(None, None, frames.stride)
        mask = item.mask.read((count - 1) * frames.stride + 1, width, height)[steps]
    reference = None if item.reference is None else read_frames(item.reference, frames)
    return ItemFrames(
        item=item,
        source=source_frames,
        result=np.ascontiguousarray(result_frames),
        mask=mask,
        reference=None if reference is None else reference[:count],
    )


def read_frames(path: Path, frames: FrameRange) -> Frames:
    """Read the chosen frames of a picture, clip or folder. Raise InputError if that fails."""
    return use_clip(path, frames, lambda clip: clip.read(0, len(clip)))


def use_clip(path: Path, frames: FrameRange, use: Callable[[Clip], Frames]) -> Frames:
    """Open a clip, pass it to `use`, and close it."""
    if not path.exists():
        raise InputError(f"{path} is missing")
    clip = read_clip(path, stride=frames.stride, frames=frames.count)
    try:
        return use(clip)
    finally:
        clip.close()
