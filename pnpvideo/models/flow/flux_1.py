"""FLUX.1 dev and schnell (Black Forest Labs 2024)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pnpvideo.models.flow.family import (
    Family,
    Grid,
    Place,
    even_sigmas,
    linear_mu,
    module_of,
    pack,
    timesteps_of,
    unpack,
)
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.options.method import PnPOptions

_DOUBLE = {"q": "attn.to_q", "k": "attn.to_k", "v": "attn.to_v", "f": "ff"}
_SINGLE = _DOUBLE | {"f": "proj_out"}
_VITAL_DOUBLE, _VITAL_SINGLE = (0, 1, 17, 18), (6, 9, 34, 35, 37)
"""The vital layers of FLUX.1 dev (Avrahami et al. 2024, "Stable Flow", arXiv 2411.14430)."""


class Flux1(Family):
    """Joint attention over [text, picture], first in two streams, then in one."""

    name = "FLUX.1"
    encoders = ("text_encoder", "text_encoder_2")
    transformer = "FluxTransformer2DModel"
    packing = 2
    stacks = ("transformer_blocks", "single_transformer_blocks")

    @property
    def options(self) -> PnPOptions:
        return PnPOptions(steps=28, guidance_scale=3.0, tau_f=0.0, tau_a=0.2)

    def encode(self, pipe: Any, text: str) -> PromptEmbeddings:
        hidden, pooled, _ = pipe.encode_prompt([text])
        return PromptEmbeddings(hidden=hidden, pooled=pooled)

    def velocity(
        self, transformer: Any, latents: Tensor, timestep: float, texts: PromptEmbeddings
    ) -> Tensor:
        device = latents.device
        guidance = None
        if texts.guidance is not None:
            guidance = torch.tensor(texts.guidance, dtype=torch.float32, device=device)
        output: Tensor = transformer(
            hidden_states=pack(latents),
            timestep=timesteps_of(latents, timestep) / 1000,
            guidance=guidance,
            pooled_projections=texts.pooled,
            encoder_hidden_states=texts.hidden,
            txt_ids=torch.zeros(texts.hidden.shape[1], 3, device=device),
            img_ids=_positions(latents),
            return_dict=False,
        )[0]
        return unpack(output, latents)

    def sigmas(self, scheduler: Any, steps: int, grid: Grid) -> tuple[list[float] | None, Any]:
        return even_sigmas(steps), linear_mu(scheduler, grid[0] * grid[1])

    def place(self, transformer: Any, block: str, kind: str) -> Place | None:
        is_single = block.startswith("single_transformer_blocks.")
        if not is_single and not block.startswith("transformer_blocks."):
            return None
        module = module_of(transformer, f"{block}.{(_SINGLE if is_single else _DOUBLE)[kind]}")
        return None if module is None else Place(module=module, are_last=is_single)

    def blocks(self, transformer: Any) -> Mapping[str, str]:
        config = transformer.config
        if (config.num_layers, config.num_single_layers) != (19, 38):
            return {}
        double = {f"transformer_blocks.{number}": "kv" for number in _VITAL_DOUBLE}
        return double | {f"single_transformer_blocks.{number}": "kv" for number in _VITAL_SINGLE}

    def sizes(self, pipe: Any) -> list[tuple[str, int, int]]:
        wanted, pooled = pipe.transformer.config, pipe.text_encoder.config.hidden_size
        width = pipe.text_encoder_2.config.d_model
        return [
            ("the autoencoder, packed,", 4 * pipe.vae.config.latent_channels, wanted.in_channels),
            ("the first text encoder", pooled, wanted.pooled_projection_dim),
            ("the second text encoder", width, wanted.joint_attention_dim),
        ]

    def is_distilled(self, pipe: Any) -> bool:
        return not self.takes_guidance(pipe.transformer)


def _positions(latents: Tensor) -> Tensor:
    """Return the (0, row, column) of each token of latents (rows, c, h, w): (tokens, 3)."""
    height, width = latents.shape[-2] // 2, latents.shape[-1] // 2
    ids = torch.zeros(height, width, 3, device=latents.device)
    ids[..., 1] += torch.arange(height, device=latents.device)[:, None]
    ids[..., 2] += torch.arange(width, device=latents.device)[None]
    return ids.view(-1, 3)
