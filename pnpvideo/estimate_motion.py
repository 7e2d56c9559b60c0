"""Optical flow of the source, at the resolution of its latents."""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clip import Frames

Flow = NDArray[np.float32]
"""Motion to the next frame, (height, width, 2), x first, in units of its own grid."""

_LEAST_SIDE = 64


def estimate_motion(batches: Iterable[Frames], width: int, height: int) -> Iterator[Flow]:
    """The motion of each frame to the next, at width x height (dense inverse search, Kroeger et
    al. 2016, in OpenCV); one flow fewer than frames.

    batches: the clip's frames, uint8 (n, h, w, 3).
    """
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    last = None
    for frames in batches:
        for frame in frames:
            grey = _large_enough(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))
            if last is not None:
                flow = search.calc(last, grey, None)
                scale = np.array([width / grey.shape[1], height / grey.shape[0]])
                small = cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA)
                yield (small * scale).astype(np.float32)
            last = grey


def _large_enough(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # The search fails on pictures that are smaller than its patches on the coarsest level.
    scale = max(1, -(-_LEAST_SIDE // min(grey.shape)))
    if scale == 1:
        return grey
    size = (grey.shape[1] * scale, grey.shape[0] * scale)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
