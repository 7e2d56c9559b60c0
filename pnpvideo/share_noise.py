"""The noise that all frames have in common."""

import torch
from torch import Tensor


def gaussian_noise(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Standard normal noise, drawn on the generator's device in float32 whatever the dtype.

    So one seed gives one picture on every device and in every precision.
    """
    noise = torch.randn(shape, generator=generator, device=generator.device)
    return noise.to(like.device, like.dtype)


def share_noise(own: Tensor, shared: Tensor, share: float) -> Tensor:
    """x_T(i) = sqrt(1 - s) z_T(i) + sqrt(s) n.

    own: (frames, channels, height, width), each frame's noise; shared: (channels, height, width);
    share: s, 0 to 1. At 0 the result is `own`, bit for bit.
    """
    if share == 0:
        return own
    mixed: Tensor = (1 - share) ** 0.5 * own + share**0.5 * shared
    return mixed
