"""Frames to latents, in batches of the autoencoder."""

from typing import Any

import torch
from torch import Tensor

from pnpvideo.clips.clip import Frames
from pnpvideo.errors import InputError
from pnpvideo.models.device import working_device

MAX_SIDE = 8192


def vae_factor(vae: Any) -> int:
    """How many pixels of a side make one latent: 8 for Stable Diffusion."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def working_size(
    width: int, height: int, model_side: int, multiple: int, wanted: tuple[int, int] | None = None
) -> tuple[int, int]:
    """The (width, height) at which frames go through the model.

    Without a wanted size: the aspect ratio is kept and the area is that of the model's own square
    (model_side pixels a side), with both sides multiples of `multiple`. A wanted size must be such
    a multiple already.
    """
    if wanted is None:
        scale = model_side / (width * height) ** 0.5
        wanted = (
            max(multiple, round(width * scale / multiple) * multiple),
            max(multiple, round(height * scale / multiple) * multiple),
        )
    for side in wanted:
        if side <= 0 or side % multiple or side > MAX_SIDE:
            raise InputError(
                f"size is {wanted[0]}x{wanted[1]}; give multiples of {multiple}, as the model "
                f"wants, up to {MAX_SIDE}"
            )
    return wanted


def frames_to_tensor(frames: Frames) -> Tensor:
    """uint8 (n, h, w, 3), 0 to 255, to float (n, 3, h, w), -1 to 1."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1.0


@torch.no_grad()
def encode_frames(vae: Any, images: Tensor) -> Tensor:
    """Images (n, 3, h, w), -1 to 1, to scaled latents (n, c, h / factor, w / factor).

    The mean of the autoencoder's distribution, not a sample: inversion wants no noise of ours.
    """
    encoded = vae.encode(images.to(working_device(vae), vae.dtype))
    latents = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latents
    shift, scale = latent_scaling(vae)
    result: Tensor = (latents - shift) * scale
    return result


def latent_scaling(vae: Any) -> tuple[float, float]:
    """The shift and the scale between the autoencoder's latents and the UNet's."""
    return getattr(vae.config, "shift_factor", None) or 0.0, vae.config.scaling_factor
