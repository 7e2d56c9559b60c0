"""Measures of a clip beside its source or its truth: pure functions of frames.

Those of a result are uint8 (n, height, width, 3), others have values in [0, 1]. Flow between
neighbouring frames is (n - 1, 2, height, width) in pixels, x first: where what a frame shows is in
the next one.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pnpvideo.clips.clip import Frames
from pnpvideo.pixels.flow import find_flow

Values = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]


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


def warp_back(frames: Values, flow: Values) -> Values:
    """Next frames (n, height, width, c) as seen from the frames before, bilinear; what lies outside
    is as at the edge. flow: (n, 2, height, width).
    """
    height, width = flow.shape[-2:]
    rows, columns = np.indices((height, width))
    x = np.clip(columns + flow[:, 0], 0, width - 1)
    y = np.clip(rows + flow[:, 1], 0, height - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    number = np.arange(len(frames))[:, None, None]
    across, down = (x - left)[..., None], (y - top)[..., None]
    above = frames[number, top, left] * (1 - across) + frames[number, top, right] * across
    below = frames[number, bottom, left] * (1 - across) + frames[number, bottom, right] * across
    return np.asarray(above * (1 - down) + below * down)


def warp_error(frames: Values, flow: Values, visible: Mask) -> float:
    """Mean squared change of what stays in sight, along the motion (Lai et al. 2018, section 5).

    visible: (n - 1, height, width), whether a pixel's surface is in sight in the next frame too.
    """
    change = np.square(warp_back(frames[1:], flow) - frames[:-1]).mean(-1)
    return float((change * visible).sum() / max(int(visible.sum()), 1))
