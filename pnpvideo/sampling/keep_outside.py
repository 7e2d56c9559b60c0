"""Latents of the source kept outside the edited area (blended latent diffusion, Avrahami et al.
2023, section 4.1, with inverted latents instead of noised ones).
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def latent_weights(batches: Iterable[NDArray[np.uint8]], factor: int) -> Tensor:
    """Return weights of latents, (frames, 1, height / factor, width / factor), in [0, 1].

    batches: weights of pixels, (n, height, width), 0 to 255. factor: pixels per latent on a side. A
    latent has the largest weight of its pixels, so that the edit reaches the edge of the mask.
    """
    pixels = (torch.from_numpy(batch)[:, None].float() / 255 for batch in batches)
    return torch.cat([functional.max_pool2d(batch, factor) for batch in pixels])


def keep_outside(latents: Tensor, source: Tensor, weights: Tensor) -> Tensor:
    """Return m x + (1 - m) z.

    latents: x, (prompts, frames, c, h, w). source: z, the source's at the same noise level,
    (frames, c, h, w). weights: m, (frames, 1, h, w).
    """
    source = source.to(latents)
    return source + weights.to(latents) * (latents - source)
