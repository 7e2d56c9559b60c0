"""Optical flow of the source."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Frames

Flow = NDArray[np.float32]
"""Motion to another frame, (height, width, 2), x first, in units of its own grid."""

_LEAST_SIDE = 64


def estimate_motion(batches: Iterable[Frames], width: int, height: int) -> Iterator[Flow]:
    """The motion of each frame to the next, at width x height; one flow fewer than frames.

    batches: the clip's frames, uint8 (n, h, w, 3).
    """
    frames = (frame for batch in batches for frame in batch)
    for one, other in pairwise(frames):
        yield find_flow(one, other, width, height)


def find_flow(one: Frames, other: Frames, width: int, height: int) -> Flow:
    """The motion from one frame (h, w, 3) to another, at width x height (dense inverse search,
    Kroeger et al. 2016, in OpenCV).
    """
    first, second = (_large_enough(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)) for x in (one, other))
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
