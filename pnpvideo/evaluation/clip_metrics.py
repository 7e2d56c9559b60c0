"""Measures of a clip beside its source: pure functions of frames, uint8 (n, height, width, 3)."""

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Frames
from pnpvideo.evaluation.masks import Masks
from pnpvideo.evaluation.metrics import Mask, Values, warp_back, warp_error
from pnpvideo.evaluation.pixel_metrics import Each
from pnpvideo.motion.flow import find_flow

# Found by pictures beside their true translations: with less, translations are found where there
# are none.
_EDGE = 16.0  # of a step of 4 grey levels
_LEAST_EDGES = 0.005  # share of the pixels that are compared
_LEAST_ALIKE = 0.7  # correlation of the edges
_BORDER = 8  # pixels


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


def pixel_shift(result: Frames, source: Frames, mask: Masks | None = None) -> Each:
    """How far each result lies beside its source, (n,) in pixels, to some hundredths.

    The translation that makes the strength of edges, which stay where colours do not, most alike
    (enhanced correlation coefficient: Evangelidis and Psarakis 2008, in OpenCV), starting from
    none: displacements of some pixels are found. mask: what is edited, and so not compared; where
    that is everything, everything is compared. Not a number where there are too few edges, or
    these are too different, to tell.
    """
    found = []
    for number, (one, other) in enumerate(zip(result, source, strict=True)):
        edited = None if mask is None or mask[number].all() else mask[number]
        found.append(_shift(one, other, edited))
    return np.array(found)


def _shift(result: Frames, source: Frames, edited: NDArray[np.bool_] | None) -> float:
    compared = np.zeros(source.shape[:2], np.uint8)
    # At the border one picture has what the other has not; edges spread some pixels from there.
    inner = (slice(1, -1),) * 2
    compared[inner] = 1 if edited is None else ~edited[inner]
    compared = cv2.erode(compared, np.ones((2 * _BORDER + 1,) * 2, np.uint8))
    if not compared.any():
        return float("nan")
    edges = [_edges(frame) for frame in (source, result)]
    if any(float((edge[compared > 0] > _EDGE).mean()) < _LEAST_EDGES for edge in edges):
        return float("nan")
    end = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-6)
    moved = np.eye(2, 3, dtype=np.float32)
    try:
        for smoothing in (15, 5):  # Far displacements first.
            alike, moved = cv2.findTransformECC(
                edges[0], edges[1], moved, cv2.MOTION_TRANSLATION, end, compared, smoothing
            )
    except cv2.error:  # It does not converge.
        return float("nan")
    return float(np.linalg.norm(moved[:, 2])) if alike >= _LEAST_ALIKE else float("nan")


def _edges(frame: Frames) -> NDArray[np.float32]:
    """The strength of edges (h, w)."""
    grey = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    return np.asarray(np.hypot(across, down))
