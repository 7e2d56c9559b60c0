"""Latents that stay the source's where nothing is edited (blended latent diffusion, Avrahami et
al. 2023, section 4.1, with the inverted latents in place of noised ones).
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def latent_weights(batches: Iterable[NDArray[np.uint8]], factor: int) -> Tensor:
    """Weights of pixels, (n, height, width) 0 to 255, as weights of latents in [0, 1].

    (frames, 1, height / factor, width / factor). A latent counts as the most edited of its pixels:
    the edit then reaches the edge, where pixels are cut out.
    """
    pixels = (torch.from_numpy(batch)[:, None].float() / 255 for batch in batches)
    return torch.cat([functional.max_pool2d(batch, factor) for batch in pixels])


def keep_outside(latents: Tensor, source: Tensor, weights: Tensor) -> Tensor:
    """m x + (1 - m) z: latents (prompts, frames, c, h, w), the source's at the same noise level
    (frames, c, h, w), and m (frames, 1, h, w).
    """
    source = source.to(latents)
    return source + weights.to(latents) * (latents - source)
