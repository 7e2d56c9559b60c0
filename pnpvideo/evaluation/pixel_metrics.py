"""Distances of pictures, pixel by pixel: pure functions of arrays.

Frames are uint8 (n, height, width, 3). A mask is boolean, (n, height, width), True at pixels to
edit. Functions return one value for each frame, (n,).
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.image import structural_similarity_index_measure

from pnpvideo.clips.clip import Frames
from pnpvideo.evaluation.masks import Masks
from pnpvideo.pixels.resize import psnr_of

FrameValues = NDArray[np.float64]
"""(n,): one value for each frame, NaN if a frame has none."""
Distance = Callable[[Frames, Frames], FrameValues]


def blackened(frames: Frames, where: Masks) -> Frames:
    """Return the frames with black pixels where a mask is True."""
    return np.where(where[..., None], np.uint8(0), frames)


def mse(frames: Frames, others: Frames) -> FrameValues:
    """Return the mean squared difference over pixels and colours, in [0, 1], 0 if equal."""
    return np.asarray(np.square(_difference(frames, others)).mean(axis=(1, 2, 3)))


def l1(frames: Frames, others: Frames) -> FrameValues:
    """Return the mean absolute difference over pixels and colours, in [0, 1], 0 if equal."""
    return np.asarray(np.abs(_difference(frames, others)).mean(axis=(1, 2, 3)))


def psnr(frames: Frames, others: Frames) -> FrameValues:
    """Return the peak signal-to-noise ratio in dB, infinite if equal."""
    return np.array([psnr_of(float(error), peak=1) for error in mse(frames, others)])


def ssim(frames: Frames, others: Frames) -> FrameValues:
    """Return the structural similarity (Wang et al. 2004) by torchmetrics, at most 1, 1 if equal.

    Gaussian windows of 11 pixels with sigma 1.5 and a mirrored border.
    """
    pictures, other_pictures = (
        torch.from_numpy(x / np.float32(255)).movedim(-1, 1) for x in (frames, others)
    )
    values = [
        structural_similarity_index_measure(a[None], b[None], data_range=1.0)
        for a, b in zip(pictures, other_pictures, strict=True)
    ]
    return np.array([float(value) for value in values])


def distance_on_unedited(
    measure: Distance, frames: Frames, others: Frames, mask: Masks
) -> FrameValues:
    """Return a distance of the part that is not edited; NaN for a frame that is edited everywhere.

    As in PIE-Bench's code (Ju et al. 2024, matrics_calculator.py), the edited part is black in
    both, and the mean is still taken over the whole frame.
    """
    values = measure(blackened(frames, mask), blackened(others, mask))
    return np.where(mask.all(axis=(1, 2)), np.nan, values)


def _difference(frames: Frames, others: Frames) -> NDArray[np.float64]:
    return np.asarray((frames.astype(np.float64) - others) / 255)
