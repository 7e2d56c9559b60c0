"""Measures of pictures and clips beside their truth: pure functions of arrays.

A picture is (height, width, 3), frames are (n, height, width, 3), with values in [0, 1]; a mask is
boolean, (height, width).
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from skimage.metrics import structural_similarity

from pnpvideo.evaluation.clip_metrics import Mask, Values, warp_error
from pnpvideo.pixels.resize import psnr_of


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
    return math.sqrt(warp_error(smooth, flow, where))
