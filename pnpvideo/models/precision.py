"""The precision of what must not be rounded: latents over the steps, tokens that are compared."""

import torch


def exact_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 whatever a network runs in, but float64 where that is more."""
    return torch.float64 if dtype == torch.float64 else torch.float32
