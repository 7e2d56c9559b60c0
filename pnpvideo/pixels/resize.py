"""Resizing of frames, and comparison of two clips: side by side, and as a number."""

import math
from collections.abc import Iterable, Iterator
from itertools import islice

import cv2
import numpy as np

from pnpvideo.clips.clip import Frames


def resize_frames(frames: Frames, width: int, height: int) -> Frames:
    """Resize frames (n, h, w, 3) or opacity (n, h, w), antialiased if they shrink."""
    if frames.shape[1:3] == (height, width):
        return frames
    shrinks = width * height < frames.shape[1] * frames.shape[2]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.stack(
        [cv2.resize(frame, (width, height), interpolation=interpolation) for frame in frames]
    )


def psnr_of(squared_error: float, peak: float) -> float:
    """Return the peak signal-to-noise ratio in dB of a mean squared error; infinite if it is 0."""
    return 10 * math.log10(peak**2 / squared_error) if squared_error else math.inf


def side_by_side(left: Iterable[Frames], right: Iterable[Frames]) -> Iterator[Frames]:
    """Yield pairs of frames side by side, the left one resized to the right one's height.

    The two sides may have different batch sizes; the result has those of the right side. Raise
    ValueError if one side has more frames than the other.
    """
    left_singles = (frame for batch in left for frame in batch)
    for batch in right:
        height = batch.shape[1]
        left_frames = list(islice(left_singles, len(batch)))
        if len(left_frames) < len(batch):
            raise ValueError("the two sides have different numbers of frames")
        frames = np.stack(left_frames)
        width = max(1, round(frames.shape[2] * height / frames.shape[1]))
        yield np.concatenate([resize_frames(frames, width, height), batch], axis=2)
    if next(left_singles, None) is not None:
        raise ValueError("the two sides have different numbers of frames")
