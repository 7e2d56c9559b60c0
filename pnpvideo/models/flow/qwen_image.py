"""Qwen-Image (Wu et al. 2025, arXiv 2508.02324)."""

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
    linear_mu,
    module_of,
    pack,
    timesteps_of,
    unpack,
)
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.options.method import PnPOptions

_MODULES = {"q": "attn.to_q", "k": "attn.to_k", "v": "attn.to_v", "f": "img_mlp"}


class QwenImage(Family):
    """Joint attention over [text, picture]; guidance keeps the size of each token's prediction."""

    name = "Qwen-Image"
    encoders = ("text_encoder",)
    transformer = "QwenImageTransformer2DModel"
    packing = 2
    autoencoders = ("AutoencoderKLQwenImage",)

    @property
    def options(self) -> PnPOptions:
        return PnPOptions(steps=30, guidance_scale=4.0, tau_f=0.0, tau_a=0.2)

    def encode(self, pipe: Any, text: str) -> PromptEmbeddings:
        hidden, _ = pipe.encode_prompt([text])
        return PromptEmbeddings(hidden=hidden, lengths=(hidden.shape[1],))

    def velocity(
        self, transformer: Any, latents: Tensor, timestep: float, texts: PromptEmbeddings
    ) -> Tensor:
        height, width = latents.shape[-2:]
        output: Tensor = transformer(
            hidden_states=pack(latents),
            timestep=timesteps_of(latents, timestep) / 1000,
            encoder_hidden_states=texts.hidden,
            encoder_hidden_states_mask=_mask(texts),
            img_shapes=[[(1, height // 2, width // 2)]] * len(latents),
            return_dict=False,
        )[0]
        return unpack(output, latents)

    def rescaled(self, guided: Tensor, prediction: Tensor) -> Tensor:
        """Scale each token to the norm that it has without guidance."""
        ours, theirs = pack(guided.flatten(0, -4)), pack(prediction.flatten(0, -4))
        norms = [torch.norm(tokens, dim=-1, keepdim=True) for tokens in (theirs, ours)]
        scaled = ours * (norms[0] / norms[1])
        return unpack(scaled, guided.flatten(0, -4)).view(guided.shape)

    def sigmas(self, scheduler: Any, steps: int, grid: Grid) -> tuple[list[float] | None, Any]:
        return even_sigmas(steps), linear_mu(scheduler, grid[0] * grid[1])

    def place(self, transformer: Any, block: str, kind: str) -> Place | None:
        if not block.startswith("transformer_blocks."):
            return None
        module = module_of(transformer, f"{block}.{_MODULES[kind]}")
        return None if module is None else Place(module=module)

    def autoencoder(self, vae: Any, turn: Turn) -> ImageAutoencoder:
        return _QwenAutoencoder(vae, turn)

    def sizes(self, pipe: Any) -> list[tuple[str, int, int]]:
        wanted = pipe.transformer.config
        width = pipe.text_encoder.config.get_text_config().hidden_size
        return [
            ("the autoencoder, packed,", 4 * pipe.vae.config.z_dim, wanted.in_channels),
            ("the text encoder", width, wanted.joint_attention_dim),
        ]


def _mask(texts: PromptEmbeddings) -> Tensor | None:
    """Return which tokens of texts are not padding: (rows, tokens); None if all are."""
    longest = texts.hidden.shape[1]
    if texts.lengths is None or min(texts.lengths) == longest:
        return None
    lengths = torch.tensor(texts.lengths, device=texts.hidden.device)
    return torch.arange(longest, device=lengths.device)[None] < lengths[:, None]


class _QwenAutoencoder(ImageAutoencoder):
    """An autoencoder of videos, for single frames; each channel has a mean and a deviation."""

    def __init__(self, vae: Any, turn: Turn) -> None:
        self.vae, self.turn = vae, turn
        self.factor = int(vae.spatial_compression_ratio)
        self.channels = vae.config.z_dim

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        images = images.to(working_device(self.vae), self.vae.dtype)
        with self.turn():
            latents = self.vae.encode(images[:, :, None]).latent_dist.mean[:, :, 0]
        mean, deviation = self._statistics(latents)
        result: Tensor = (latents - mean) / deviation
        check_finite(result, "autoencoder", self.vae.dtype)
        return result

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        mean, deviation = self._statistics(latents)
        scaled = (latents * deviation + mean).to(working_device(self.vae), self.vae.dtype)
        with self.turn():
            images: Tensor = self.vae.decode(scaled[:, :, None]).sample[:, :, 0]
        check_finite(images, "autoencoder", self.vae.dtype)
        return images.float().clamp(-1, 1)

    def use_tiles(self) -> None:
        self.vae.enable_tiling()

    def _statistics(self, like: Tensor) -> list[Tensor]:
        """Return the mean and the deviation of each channel."""
        config = self.vae.config
        lists = (config.latents_mean, config.latents_std)
        return [torch.tensor(values).to(like)[:, None, None] for values in lists]
