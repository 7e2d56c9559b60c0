"""Measures of pictures and clips against the ground truth: pure functions of arrays.

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
    """Return the peak signal-to-noise ratio in dB; infinite if both are equal."""
    return psnr_of(float(np.square(picture.astype(np.float64) - truth).mean()), peak=1)


def ssim(picture: Values, truth: Values) -> float:
    """Return the structural similarity (Wang et al. 2004), 1 if equal; windows of 7 pixels."""
    return float(structural_similarity(truth, picture, data_range=1, channel_axis=-1))


def iou(found: Mask, truth: Mask) -> float:
    """Return the intersection over union of two masks; 1 if both are empty."""
    union = int((found | truth).sum())
    return int((found & truth).sum()) / union if union else 1.0


def flicker(frames: Values, flow: Values, where: Mask, *, window: int = 9) -> float:
    """Return the RMS change of brightness and colour between frames, along the motion.

    where: (n - 1, height, width), for instance ground that stays visible and is farther than
    `window` pixels from everything else. Measured on means of `window` x `window` pixels, so that
    texture does not count.
    """

    def blurred(frame: Values) -> Values:
        size, border = (window, window), cv2.BORDER_CONSTANT
        inside = cv2.blur(np.ones(frame.shape[:2]), size, borderType=border)
        return np.asarray(cv2.blur(frame, size, borderType=border) / inside[..., None])

    smooth = np.stack([blurred(frame) for frame in frames.astype(np.float64)])
    return math.sqrt(warp_error(smooth, flow, where))
