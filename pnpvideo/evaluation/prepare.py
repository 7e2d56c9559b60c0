"""Preparation of pictures for the networks for measures.

Pillow resizes them, as in these networks' training, and independent of the installed libraries.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pnpvideo.clips.clip import Frames

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Mean and standard deviation of each colour in a network's training."""
Colours = tuple[tuple[float, float, float], tuple[float, float, float]]


def resized_bicubic(frames: Frames, width: int, height: int) -> Frames:
    """Resize frames, bicubic, as the benchmarks' code does with results."""
    if frames.shape[1:3] == (height, width):
        return frames
    return np.stack(
        [
            np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))
            for frame in frames
        ]
    )


def resized_and_cropped(
    frames: Frames, side: int, crop: int, resampling: Image.Resampling
) -> Frames:
    """Resize frames to a shorter side of `side`, and crop the centre to a square of `crop`."""
    results = []
    for frame in frames:
        height, width = frame.shape[:2]
        short = min(width, height)
        size = (int(side * width / short), int(side * height / short))
        image = Image.fromarray(frame)
        image = image if image.size == size else image.resize(size, resampling)
        left, top = (round((length - crop) / 2) for length in size)
        results.append(np.asarray(image.crop((left, top, left + crop, top + crop))))
    return np.stack(results)


def normalised(frames: Frames, colours: Colours, *, scale: float = 255) -> Tensor:
    """Return (n, 3, h, w): values divided by `scale`, then normalised by mean and deviation."""
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in colours)
    return (torch.from_numpy(frames / np.float32(scale)).movedim(-1, 1) - mean) / deviation
