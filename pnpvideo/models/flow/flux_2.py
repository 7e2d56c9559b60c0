"""FLUX.2 dev and klein (Black Forest Labs 2025)."""

from typing import Any

import torch
from torch import Tensor

from pnpvideo.models.autoencoder import ImageAutoencoder
from pnpvideo.models.device import working_device
from pnpvideo.models.failures import check_finite
from pnpvideo.models.flow.family import (
    Family,
    Grid,
    Place,
    Turn,
    even_sigmas,
    module_of,
    pack,
    timesteps_of,
    unpack,
)
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.options.method import PnPOptions

_DOUBLE = {"q": "attn.to_q", "k": "attn.to_k", "v": "attn.to_v", "f": "ff"}
_FUSED = "qkv"
"""The kinds that the fused projection of a single-stream block begins with, in order."""


class Flux2(Family):
    """Joint attention over [text, picture]; the levels depend on the number of steps too.

    Latents here are what diffusers' pipeline has of them after packing: 128 channels at a
    sixteenth of the size.
    """

    name = "FLUX.2"
    encoders = ("text_encoder",)
    transformer = "Flux2Transformer2DModel"
    stacks = ("transformer_blocks", "single_transformer_blocks")
    autoencoders = ("AutoencoderKLFlux2",)

    @property
    def options(self) -> PnPOptions:
        return PnPOptions(steps=28, guidance_scale=4.0, tau_f=0.0, tau_a=0.2)

    def encode(self, pipe: Any, text: str) -> PromptEmbeddings:
        hidden, _ = pipe.encode_prompt([text])
        return PromptEmbeddings(hidden=hidden)

    def velocity(
        self, transformer: Any, latents: Tensor, timestep: float, texts: PromptEmbeddings
    ) -> Tensor:
        device, (height, width) = latents.device, latents.shape[-2:]
        guidance = None
        if texts.guidance is not None:
            guidance = torch.tensor(texts.guidance, dtype=torch.float32, device=device)
        output: Tensor = transformer(
            hidden_states=latents.flatten(2).transpose(1, 2),
            timestep=timesteps_of(latents, timestep) / 1000,
            guidance=guidance,
            encoder_hidden_states=texts.hidden,
            txt_ids=_positions(1, 1, texts.hidden.shape[1], device),
            img_ids=_positions(height, width, 1, device),
            return_dict=False,
        )[0]
        return output.transpose(1, 2).reshape(latents.shape)

    def sigmas(self, scheduler: Any, steps: int, grid: Grid) -> tuple[list[float] | None, Any]:
        return even_sigmas(steps), _shift(grid[0] * grid[1], steps)

    def place(self, transformer: Any, block: str, kind: str) -> Place | None:
        if block.startswith("transformer_blocks."):
            module = module_of(transformer, f"{block}.{_DOUBLE[kind]}")
            return None if module is None else Place(module=module)
        if not block.startswith("single_transformer_blocks."):
            return None
        attention = module_of(transformer, f"{block}.attn")
        if attention is None or kind == "f":
            return attention and Place(module=attention.to_out, are_last=True)
        first, width = _FUSED.index(kind) * attention.inner_dim, attention.inner_dim
        return Place(
            module=attention.to_qkv_mlp_proj, are_last=True, channels=(first, first + width)
        )

    def autoencoder(self, vae: Any, turn: Turn) -> ImageAutoencoder:
        return _Flux2Autoencoder(vae, turn)

    def sizes(self, pipe: Any) -> list[tuple[str, int, int]]:
        wanted = pipe.transformer.config
        # Three layers of the text encoder, side by side.
        width = 3 * pipe.text_encoder.config.get_text_config().hidden_size
        return [
            ("the autoencoder, packed,", 4 * pipe.vae.config.latent_channels, wanted.in_channels),
            ("the text encoder", width, wanted.joint_attention_dim),
        ]


class Flux2Klein(Flux2):
    """The smaller models, with a negative prompt in place of a guidance scale for the network."""

    name = "FLUX.2 klein"

    def is_distilled(self, pipe: Any) -> bool:
        return bool(pipe.config.get("is_distilled"))


def _shift(tokens: int, steps: int) -> float:
    """Return the shift of the levels for so many picture tokens and steps.

    Two lines that were fitted for 200 and for 10 steps, and between them a line over the steps, in
    the order in which diffusers' pipeline rounds it.
    """
    at_200 = 0.00016927 * tokens + 0.45666666
    if tokens > 4300:
        return at_200
    slope = (at_200 - (8.73809524e-05 * tokens + 1.89833333)) / 190.0
    return slope * steps + (at_200 - 200.0 * slope)


def _positions(height: int, width: int, length: int, device: torch.device) -> Tensor:
    """Return the (0, row, column, place in the text) of each token: (tokens, 4)."""
    sides = [torch.arange(side, device=device) for side in (1, height, width, length)]
    return torch.cartesian_prod(*sides)


class _Flux2Autoencoder(ImageAutoencoder):
    """An autoencoder whose latents are packed and scaled by the statistics of a batch norm."""

    def __init__(self, vae: Any, turn: Turn) -> None:
        super().__init__(vae, turn)
        self.factor *= 2
        self.channels *= 4

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        images = images.to(working_device(self.vae), self.vae.dtype)
        with self.turn():
            latents = self.vae.encode(images).latent_dist.mean
        rows, _, height, width = latents.shape
        packed = pack(latents).transpose(1, 2).reshape(rows, -1, height // 2, width // 2)
        mean, deviation = self._statistics(packed)
        result: Tensor = (packed - mean) / deviation
        check_finite(result, "autoencoder", self.vae.dtype)
        return result

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        mean, deviation = self._statistics(latents)
        rows, channels, height, width = latents.shape
        like = latents.new_empty(rows, channels // 4, 2 * height, 2 * width)
        unpacked = unpack((latents * deviation + mean).flatten(2).transpose(1, 2), like)
        with self.turn():
            scaled = unpacked.to(working_device(self.vae), self.vae.dtype)
            images: Tensor = self.vae.decode(scaled).sample
        check_finite(images, "autoencoder", self.vae.dtype)
        return images.float().clamp(-1, 1)

    def _statistics(self, like: Tensor) -> list[Tensor]:
        """Return the mean and the deviation of each packed channel."""
        norm, eps = self.vae.bn, self.vae.config.batch_norm_eps
        values = norm.running_mean, torch.sqrt(norm.running_var + eps)
        return [value.to(like)[:, None, None] for value in values]
