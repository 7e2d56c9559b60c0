"""Measures of a clip against its source or the ground truth: pure functions of frames.

Frames of a result are uint8 (n, height, width, 3), others have values in [0, 1]. Flow from each
frame to the next is (n - 1, 2, height, width) in pixels, x first.
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
    """Return the mean squared change of a result along its source's motion, at visible pixels.

    The value is in [0, 1], 0 is steadiest; NaN for one frame (Lai et al. 2018, "Learning Blind
    Video Temporal Consistency", section 5). The motion is found by dense inverse search (Kroeger et
    al. 2016), in both directions.
    """
    if len(source) < 2:
        return float("nan")
    flow, visible = source_motion(source)
    return warp_error(result.astype(np.float32) / 255, flow, visible)


def source_motion(source: Frames) -> tuple[Values, Mask]:
    """Return the flow (n - 1, 2, h, w) to the next frame, and where a pixel is visible there.

    Flow is in pixels, x first; visibility is boolean (n - 1, h, w).
    """
    _, height, width, _ = source.shape
    forward, backward = [], []
    for first, second in pairwise(source):
        forward.append(find_flow(first, second, width, height).transpose(2, 0, 1))
        backward.append(find_flow(second, first, width, height).transpose(2, 0, 1))
    flow = np.stack(forward)
    return flow, visible_in_next(flow, np.stack(backward))


def visible_in_next(flow: Values, back: Values) -> Mask:
    """Return where forward and backward flow agree (n, h, w). flow, back: (n, 2, h, w).

    The bounds are those of Sundaram et al. 2010, "Dense Point Trajectories", equation 5.
    """
    returning = warp_back(back.transpose(0, 2, 3, 1), flow).transpose(0, 3, 1, 2)
    gap = np.square(flow + returning).sum(1)
    _, _, height, width = flow.shape
    rows, columns = np.indices((height, width))
    x, y = columns + flow[:, 0], rows + flow[:, 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    close = gap < 0.01 * (np.square(flow).sum(1) + np.square(returning).sum(1)) + 0.5
    return np.asarray(close & inside)


def warp_back(frames: Values, flow: Values) -> Values:
    """Warp next frames (n, height, width, c) back to the previous ones, bilinearly.

    flow: (n, 2, height, width). Outside, values are those of the edge.
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
    """Return the mean squared change of visible pixels along the motion (Lai et al. 2018, sec. 5).

    visible: (n - 1, height, width), whether a pixel's surface is visible in the next frame too.
    """
    change = np.square(warp_back(frames[1:], flow) - frames[:-1]).mean(-1)
    return float((change * visible).sum() / max(int(visible.sum()), 1))
