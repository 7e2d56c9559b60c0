"""Latents back to frames, in batches of the autoencoder."""

from typing import Any

import torch
from torch import Tensor

from pnpvideo.clips.clip import Frames
from pnpvideo.models.autoencoder import latent_scaling
from pnpvideo.models.device import working_device


@torch.no_grad()
def decode_latents(vae: Any, latents: Tensor) -> Tensor:
    """Scaled latents (n, c, h, w) to images (n, 3, h * factor, w * factor), -1 to 1, float32."""
    shift, scale = latent_scaling(vae)
    scaled = (latents / scale + shift).to(working_device(vae), vae.dtype)
    images = vae.decode(scaled).sample
    result: Tensor = images.float().clamp(-1, 1)
    return result


def tensor_to_frames(images: Tensor) -> Frames:
    """float (n, 3, h, w), -1 to 1, to uint8 (n, h, w, 3), 0 to 255."""
    scaled = ((images + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()
