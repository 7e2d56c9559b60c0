"""Frames at another size, and two clips beside each other, for the eye and as a number."""

import math
from collections.abc import Iterable, Iterator
from itertools import islice

import cv2
import numpy as np

from pnpvideo.clips.clip import Frames


def resize_frames(frames: Frames, width: int, height: int) -> Frames:
    """Frames (n, h, w, 3), or opacity (n, h, w), at another size, antialiased when they shrink."""
    if frames.shape[1:3] == (height, width):
        return frames
    shrinks = width * height < frames.shape[1] * frames.shape[2]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, (width, height), interpolation=how) for frame in frames])


def psnr_of(squared_error: float, peak: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error; infinite where that is 0."""
    return 10 * math.log10(peak**2 / squared_error) if squared_error else math.inf


def side_by_side(left: Iterable[Frames], right: Iterable[Frames]) -> Iterator[Frames]:
    """Pairs of frames in one picture, the left one resized to the right one's height.

    Batches may be cut differently on both sides; those given are as on the right. ValueError where
    one side has more frames than the other.
    """
    singles = (frame for batch in left for frame in batch)
    for batch in right:
        height = batch.shape[1]
        taken = list(islice(singles, len(batch)))
        if len(taken) < len(batch):
            raise ValueError("the two sides have different numbers of frames")
        frames = np.stack(taken)
        width = max(1, round(frames.shape[2] * height / frames.shape[1]))
        yield np.concatenate([resize_frames(frames, width, height), batch], axis=2)
    if next(singles, None) is not None:
        raise ValueError("the two sides have different numbers of frames")
