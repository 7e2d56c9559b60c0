"""Measures of pictures and clips beside their truth: pure functions of arrays.

A picture is (height, width, 3), frames are (n, height, width, 3), with values in [0, 1]; a mask is
boolean, (height, width). Flow between neighbouring frames is (n - 1, 2, height, width) in pixels, x
first: where what a frame shows is in the next one.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
from skimage.metrics import structural_similarity

from pnpvideo.pixels.resize import psnr_of

Values = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]


def psnr(picture: Values, truth: Values) -> float:
    """Peak signal-to-noise ratio in dB; infinite where both are the same."""
    return psnr_of(float(np.square(picture.astype(np.float64) - truth).mean()), peak=1)


def ssim(picture: Values, truth: Values) -> float:
    """Structural similarity (Wang et al. 2004), 1 where both are the same; windows of 7 pixels."""
    return float(structural_similarity(truth, picture, data_range=1, channel_axis=-1))


def iou(found: Mask, truth: Mask) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    union = int((found | truth).sum())
    return int((found & truth).sum()) / union if union else 1.0


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
    return _mean_change(frames, flow, visible)


def flicker(frames: Values, flow: Values, where: Mask, *, window: int = 9) -> float:
    """Root mean squared change of brightness and colour from frame to frame, along the motion.

    where: (n - 1, height, width), such as the ground that stays in sight, farther than `window`
    pixels from all else. Measured on means of `window` x `window` pixels: texture does not count.
    """

    def blurred(frame: Values) -> Values:
        size, border = (window, window), cv2.BORDER_CONSTANT
        inside = cv2.blur(np.ones(frame.shape[:2]), size, borderType=border)
        return np.asarray(cv2.blur(frame, size, borderType=border) / inside[..., None])

    smooth = np.stack([blurred(frame) for frame in frames.astype(np.float64)])
    return math.sqrt(_mean_change(smooth, flow, where))


def _mean_change(frames: Values, flow: Values, where: Mask) -> float:
    change = np.square(warp_back(frames[1:], flow) - frames[:-1]).mean(-1)
    return float((change * where).sum() / max(int(where.sum()), 1))
