"""Distances of pictures, pixel by pixel: pure functions of arrays.

Frames are uint8 (n, height, width, 3). A mask is boolean, (n, height, width), True where a frame is
to be edited. Each function gives one value a frame, (n,).
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.image import structural_similarity_index_measure

from pnpvideo.clips.clip import Frames
from pnpvideo.evaluation.masks import Masks
from pnpvideo.pixels.resize import psnr_of

Each = NDArray[np.float64]
"""(n,): a value a frame, not a number where a frame gives none."""
Distance = Callable[[Frames, Frames], Each]


def blacked(frames: Frames, where: Masks) -> Frames:
    """The frames with black where a mask is True, the rest as it is."""
    return np.where(where[..., None], np.uint8(0), frames)


def mse(frames: Frames, others: Frames) -> Each:
    """Mean squared difference over all pixels and colours; values in [0, 1], 0 where alike."""
    return np.asarray(np.square(_difference(frames, others)).mean(axis=(1, 2, 3)))


def l1(frames: Frames, others: Frames) -> Each:
    """Mean absolute difference over all pixels and colours; values in [0, 1], 0 where alike."""
    return np.asarray(np.abs(_difference(frames, others)).mean(axis=(1, 2, 3)))


def psnr(frames: Frames, others: Frames) -> Each:
    """Peak signal-to-noise ratio in dB, infinite where alike."""
    return np.array([psnr_of(float(error), peak=1) for error in mse(frames, others)])


def ssim(frames: Frames, others: Frames) -> Each:
    """Structural similarity (Wang et al. 2004) by torchmetrics: Gaussian windows of 11 pixels with
    sigma 1.5 and a mirrored border, at most 1, which is alike. (`metrics.ssim` has square windows,
    as scikit-image.)
    """
    one, other = (torch.from_numpy(x / np.float32(255)).movedim(-1, 1) for x in (frames, others))
    values = [
        structural_similarity_index_measure(a[None], b[None], data_range=1.0)
        for a, b in zip(one, other, strict=True)
    ]
    return np.array([float(value) for value in values])


def of_unedited(measure: Distance, frames: Frames, others: Frames, mask: Masks) -> Each:
    """A distance of what is not to be edited, as PIE-Bench's code has it (Ju et al. 2024,
    matrics_calculator.py): the edited part black in both, and the mean over the whole frame all the
    same. A frame that is edited everywhere has none.
    """
    values = measure(blacked(frames, mask), blacked(others, mask))
    return np.where(mask.all(axis=(1, 2)), np.nan, values)


def _difference(frames: Frames, others: Frames) -> NDArray[np.float64]:
    return np.asarray((frames.astype(np.float64) - others) / 255)
