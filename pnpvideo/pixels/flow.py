"""Optical flow between frames."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Frames, Picture

Flow = NDArray[np.float32]
"""Motion to another frame, (height, width, 2), x first, in pixels of its own grid."""

_LEAST_SIDE = 64


def estimate_motion(batches: Iterable[Frames], width: int, height: int) -> Iterator[Flow]:
    """Yield the motion from each frame to the next, at width x height: one fewer than frames.

    batches: the clip's frames, uint8 (n, h, w, 3).
    """
    frames = (frame for batch in batches for frame in batch)
    for frame, next_frame in pairwise(frames):
        yield find_flow(frame, next_frame, width, height)


def find_flow(start: Picture, end: Picture, width: int, height: int) -> Flow:
    """Estimate the motion from one frame (h, w, 3) to another, at width x height.

    Dense inverse search (Kroeger et al. 2016), in OpenCV.
    """
    first, second = (_large_enough(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)) for x in (start, end))
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = search.calc(first, second, None)
    scale = np.array([width / flow.shape[1], height / flow.shape[0]], dtype=np.float32)
    small = cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small * scale, dtype=np.float32)


def _large_enough(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # The search fails on pictures that are smaller than its patches on the coarsest level.
    scale = max(1, -(-_LEAST_SIDE // min(grey.shape)))
    if scale == 1:
        return grey
    size = (grey.shape[1] * scale, grey.shape[0] * scale)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
