"""What a result looks like before it is one."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from pnpvideo.clips.clip import Frames
from pnpvideo.pixels.resize import resize_frames
from pnpvideo.sampling.schedule import Level

SHOWN = 4
"""Frames of a clip in a preview."""

_HEIGHT = 256


def predicted_clean(before: Tensor, after: Tensor, start: Level, end: Level) -> Tensor:
    """The clean latents that a deterministic step from one noise level to another went towards.

    before = a clean + s eps and after = a' clean + s' eps (a and s: signal and noise of the
    levels), solved for clean. At the clean end it is `after` itself.
    """
    a, s, b, t = start.signal, start.noise, end.signal, end.noise
    return (after * s - before * t) / (b * s - a * t)


def contact_strip(frames: Sequence[Frames]) -> Frames:
    """Frames (height, width, 3) beside one another, none higher than a preview is."""
    stacked = np.stack(frames)
    height, width = stacked.shape[1:3]
    if height > _HEIGHT:
        stacked = resize_frames(stacked, max(1, round(width * _HEIGHT / height)), _HEIGHT)
    strip: Frames = np.concatenate(list(stacked), axis=1)
    return strip
