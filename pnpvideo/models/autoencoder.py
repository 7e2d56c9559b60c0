"""Encoding of single frames to latents and back, with any autoencoder of images in diffusers."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from diffusers import AutoencoderTiny
from diffusers.utils.torch_utils import unwrap_module
from torch import Tensor

from pnpvideo.clips.clip import Frames
from pnpvideo.errors import InputError
from pnpvideo.models.device import working_device
from pnpvideo.models.failures import check_finite

MAX_SIDE = 8192


class LatentGrid:
    """The grid of latents, which the autoencoders of images and of videos have in common.

    factor: pixels along a side that make one latent. channels: of a latent.
    """

    def __init__(
        self, vae: Any, turn: Callable[[], AbstractContextManager[None]], factor: int, channels: int
    ) -> None:
        """turn: keeps other threads from using the model within its context."""
        self.vae, self.turn = vae, turn
        self.factor, self.channels = factor, channels

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.vae.dtype
        return dtype

    def latents_shape(self, piece_count: int, size: tuple[int, int]) -> tuple[int, ...]:
        """Return the shape of the latents of so many pieces of (width, height) pixels."""
        width, height = (side // self.factor for side in size)
        return piece_count, self.channels, height, width

    def size_of(self, shape: Sequence[int]) -> tuple[int, int]:
        """Return the (width, height) in pixels of latents of shape (..., height, width)."""
        return shape[-1] * self.factor, shape[-2] * self.factor


class ImageAutoencoder(LatentGrid):
    """The `Autoencoder` of diffusers' `AutoencoderKL` and `AutoencoderTiny`: a piece is a frame.

    factor: 8 for Stable Diffusion.
    """

    def __init__(
        self, vae: Any, turn: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        """turn: keeps other threads from using the model within its context."""
        config = vae.config
        factor = int(2 ** (len(config.block_out_channels) - 1))
        super().__init__(vae, turn, factor, config.latent_channels)

    def pieces(self, frame_count: int, scenes: Callable[[], Sequence[range]]) -> tuple[range, ...]:
        """Return one piece for each frame."""
        return tuple(range(frame, frame + 1) for frame in range(frame_count))

    def frame_count(self, piece_count: int) -> int:
        """Return the number of frames in so many pieces, which is the same."""
        return piece_count

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Encode images (n, 3, h, w), -1 to 1, to scaled latents (n, c, h / factor, w / factor).

        The mean of the autoencoder's distribution, not a sample: inversion must not start from
        added noise. RunError if the latents are not finite.
        """
        images = images.to(working_device(self.vae), self.vae.dtype)
        with self.turn():
            if self._is_tiny and self.vae.use_tiling:
                latents = self._encode_tiles(images)
            else:
                encoded = self.vae.encode(images)
                is_large = hasattr(encoded, "latent_dist")
                latents = encoded.latent_dist.mean if is_large else encoded.latents
        shift, scale = self._scaling
        result: Tensor = (latents - shift) * scale
        check_finite(result, "autoencoder", self.vae.dtype)
        return result

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode scaled latents (n, c, h, w) to float32 images (n, 3, height, width), -1 to 1.

        RunError if the images are not finite.
        """
        shift, scale = self._scaling
        scaled = (latents / scale + shift).to(working_device(self.vae), self.vae.dtype)
        with self.turn():
            images: Tensor = self.vae.decode(scaled).sample
        check_finite(images, "autoencoder", self.vae.dtype)
        return images.float().clamp(-1, 1)

    def encoder(self) -> Callable[[Tensor], Tensor]:
        """Return `encode`, which depends on no other frames."""
        return self.encode

    def decoder(self) -> Callable[[Tensor], Tensor]:
        """Return `decode`, which depends on no other frames."""
        return self.decode

    def use_tiles(self) -> None:
        """Encode and decode in overlapping tiles from now on, which take less memory."""
        if self._is_tiny:
            # diffusers takes its factor for 8 whatever it is.
            self.vae.spatial_scale_factor = self.factor
            self.vae.tile_latent_min_size = self.vae.tile_sample_min_size // self.factor
        self.vae.enable_tiling()

    def _encode_tiles(self, images: Tensor) -> Tensor:
        """Encode as `AutoencoderTiny` does, which assumes 4 channels whatever it has."""
        tile, factor = self.vae.tile_sample_min_size, self.factor
        overlap = int(tile * self.vae.tile_overlap_factor)
        ramp = torch.arange(tile // factor, device=images.device) / max(overlap // factor - 1, 1)
        ramps = (torch.ones_like(ramp), ramp.clamp(max=1))
        count, _, height, width = images.shape
        latents = images.new_zeros(count, self.channels, height // factor, width // factor)
        for top in range(0, height, tile - overlap):
            for left in range(0, width, tile - overlap):
                part = self.vae.encoder(images[..., top : top + tile, left : left + tile])
                rows, columns = part.shape[-2:]
                there = latents[..., top // factor :, left // factor :][..., :rows, :columns]
                # Where tiles overlap, the one above or to the left fades out.
                share = ramps[top > 0][:rows, None] * ramps[left > 0][:columns]
                there.copy_(share * part + (1 - share) * there)
        return latents

    @property
    def _is_tiny(self) -> bool:
        return isinstance(unwrap_module(self.vae), AutoencoderTiny)

    @property
    def _scaling(self) -> tuple[float, float]:
        """Return the shift and the scale between the autoencoder's latents and the network's."""
        return getattr(self.vae.config, "shift_factor", None) or 0.0, self.vae.config.scaling_factor


def working_size(
    width: int,
    height: int,
    model_side: float,
    multiple: int,
    wanted: tuple[int, int] | None = None,
    longest: int = MAX_SIDE,
) -> tuple[int, int]:
    """Return the (width, height) at which frames of a size go through the model.

    Without a wanted size the aspect ratio is kept, the area is that of a square of model_side
    pixels a side, and both sides are multiples of `multiple`. The sides of a wanted size must be
    such multiples already. longest: the pixels that a side may have.
    """
    if wanted is None:
        scale = model_side / (width * height) ** 0.5
        found = (
            max(multiple, round(width * scale / multiple) * multiple),
            max(multiple, round(height * scale / multiple) * multiple),
        )
        if max(found) > longest:
            raise InputError(
                f"the source is {width}x{height}, and with its proportions the model would work at "
                f"{found[0]}x{found[1]}, more than the {longest} pixels that a side can have; crop "
                f"the source, or give a --size of multiples of {multiple}, up to {longest}"
            )
        return found
    for side in wanted:
        if side <= 0 or side % multiple or side > MAX_SIDE:
            raise InputError(
                f"size is {wanted[0]}x{wanted[1]}; give multiples of {multiple}, as the model "
                f"requires, up to {MAX_SIDE}"
            )
    return wanted


def frames_to_tensor(frames: Frames) -> Tensor:
    """Convert uint8 (n, h, w, 3), 0 to 255, to float (n, 3, h, w), -1 to 1."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def tensor_to_frames(images: Tensor) -> Frames:
    """Convert float (n, 3, h, w), -1 to 1, to uint8 (n, h, w, 3), 0 to 255."""
    scaled = ((images + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()
