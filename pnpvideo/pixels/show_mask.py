"""Pictures of masks, for people to look at."""

import numpy as np

from pnpvideo.clips.clip import Frames, Picture
from pnpvideo.pixels.mask import Weights
from pnpvideo.pixels.resize import resize_frames

COLOUR = (255, 64, 64)
TINT = 0.5
"""The opacity of the colour over a frame, 0 to 1."""

_SHOWN = 6
"""The most frames in a sheet."""
_HEIGHT = 256
"""The most pixels of a frame's height in a sheet."""


def tinted(frame: Picture, mask: Weights) -> Picture:
    """Return a frame (height, width, 3) with its mask shown in colour."""
    share = mask[..., np.newaxis].astype(np.float32) / 255 * TINT
    return np.rint(frame + share * (np.array(COLOUR) - frame)).astype(np.uint8)


def as_frame(mask: Weights) -> Picture:
    """Return a mask (height, width) as a frame (height, width, 3)."""
    return np.repeat(mask[..., np.newaxis], 3, axis=2)


def whole(mask: Weights) -> Weights:
    """Return a mask without its feather: white wherever anything is edited."""
    return np.where(mask > 0, np.uint8(255), np.uint8(0))


def shown_frames(count: int) -> list[int]:
    """Return the numbers of the frames that a sheet shows, from the first to the last."""
    shown = min(count, _SHOWN)
    return [round(number * (count - 1) / max(1, shown - 1)) for number in range(shown)]


def mask_sheet(frames: Frames, masks: Weights) -> Picture:
    """Return some frames side by side with their masks in colour, and below them the masks alone.

    frames: (n, height, width, 3). masks: (n, height, width).
    """
    height, width = frames.shape[1:3]
    if height > _HEIGHT:
        width, height = max(1, round(width * _HEIGHT / height)), _HEIGHT
        frames, masks = resize_frames(frames, width, height), resize_frames(masks, width, height)
    pairs = list(zip(frames, masks, strict=True))
    above = np.concatenate([tinted(frame, mask) for frame, mask in pairs], axis=1)
    return np.concatenate([above, np.concatenate([as_frame(m) for m in masks], axis=1)])


def percent(share: float) -> str:
    """Return a share as a text: "18 %"."""
    return "less than 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"
