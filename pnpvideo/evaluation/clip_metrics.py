"""Measures of a clip beside its source: pure functions of frames, uint8 (n, height, width, 3)."""

from itertools import pairwise

import numpy as np

from pnpvideo.clips.clip import Frames
from pnpvideo.evaluation.metrics import Mask, Values, warp_back, warp_error
from pnpvideo.pixels.flow import find_flow


def estimated_warp_error(result: Frames, source: Frames) -> float:
    """Mean squared change of a result along its source's motion, where that stays in sight (Lai et
    al. 2018, "Learning Blind Video Temporal Consistency", section 5); in [0, 1], 0 is steadiest.

    Motion by dense inverse search (Kroeger et al. 2016), both ways. Not a number for one frame.
    """
    if len(source) < 2:
        return float("nan")
    flow, visible = source_motion(source)
    return warp_error(result.astype(np.float32) / 255, flow, visible)


def source_motion(source: Frames) -> tuple[Values, Mask]:
    """Flow (n - 1, 2, h, w) between neighbouring frames in pixels, x first, and where what a frame
    shows is in sight in the next one (n - 1, h, w).
    """
    _, height, width, _ = source.shape
    onward, back = [], []
    for one, other in pairwise(source):
        onward.append(find_flow(one, other, width, height).transpose(2, 0, 1))
        back.append(find_flow(other, one, width, height).transpose(2, 0, 1))
    flow = np.stack(onward)
    return flow, in_sight(flow, np.stack(back))


def in_sight(flow: Values, back: Values) -> Mask:
    """Where the way there and back ends where it began (n, h, w), by the bounds of Sundaram et al.
    2010, "Dense Point Trajectories", equation 5. flow, back: (n, 2, h, w).
    """
    there = warp_back(back.transpose(0, 2, 3, 1), flow).transpose(0, 3, 1, 2)
    gap = np.square(flow + there).sum(1)
    _, _, height, width = flow.shape
    rows, columns = np.indices((height, width))
    x, y = columns + flow[:, 0], rows + flow[:, 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    close = gap < 0.01 * (np.square(flow).sum(1) + np.square(there).sum(1)) + 0.5
    return np.asarray(close & inside)
