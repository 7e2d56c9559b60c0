"""Pictures as the networks that measure want them.

By Pillow, as these networks were trained, and the same whichever libraries are installed.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pnpvideo.clips.clip import Frames

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Mean and deviation of each colour that a network was trained with."""
Colours = tuple[tuple[float, float, float], tuple[float, float, float]]


def fitted(frames: Frames, width: int, height: int) -> Frames:
    """Frames at another size, bicubic, as the benchmarks' own code resizes results."""
    if frames.shape[1:3] == (height, width):
        return frames
    return np.stack(
        [
            np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))
            for frame in frames
        ]
    )


def cropped(frames: Frames, side: int, crop: int, how: Image.Resampling) -> Frames:
    """Frames with their shorter side at `side`, and of these the middle, `crop` square."""
    done = []
    for frame in frames:
        height, width = frame.shape[:2]
        short = min(width, height)
        size = (int(side * width / short), int(side * height / short))
        image = Image.fromarray(frame)
        image = image if image.size == size else image.resize(size, how)
        left, top = (round((length - crop) / 2) for length in size)
        done.append(np.asarray(image.crop((left, top, left + crop, top + crop))))
    return np.stack(done)


def normalised(frames: Frames, colours: Colours, *, scale: float = 255) -> Tensor:
    """(n, 3, h, w): values divided by `scale`, then by mean and deviation."""
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in colours)
    return (torch.from_numpy(frames / np.float32(scale)).movedim(-1, 1) - mean) / deviation
