"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv 2403.03206)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pnpvideo.models.flow.family import Family, Grid, Place, linear_mu, module_of, timesteps_of
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.options.method import PnPOptions

_MODULES = {"q": "attn.to_q", "k": "attn.to_k", "v": "attn.to_v", "f": "ff"}
_MEDIUM = (0, 1, 3, 4, 12, 14, 17, 18, 19, 20, 21, 22, 23)
"""The blocks of 3.5 Medium that keep background and whole of a picture (LayerVerse's code)."""


class StableDiffusion3(Family):
    """Joint attention over [picture, text]; guidance with a negative prompt."""

    name = "Stable Diffusion 3"
    encoders = ("text_encoder", "text_encoder_2")
    optional = ("text_encoder_3",)
    transformer = "SD3Transformer2DModel"

    @property
    def options(self) -> PnPOptions:
        return PnPOptions(steps=28, guidance_scale=3.5, tau_f=0.0, tau_a=0.2)

    def encode(self, pipe: Any, text: str) -> PromptEmbeddings:
        hidden, _, pooled, _ = pipe.encode_prompt(
            [text], None, None, do_classifier_free_guidance=False
        )
        return PromptEmbeddings(hidden=hidden, pooled=pooled)

    def velocity(
        self, transformer: Any, latents: Tensor, timestep: float, texts: PromptEmbeddings
    ) -> Tensor:
        output: Tensor = transformer(
            hidden_states=latents,
            timestep=timesteps_of(latents, timestep),
            encoder_hidden_states=texts.hidden,
            pooled_projections=texts.pooled,
            return_dict=False,
        )[0]
        return output

    def sigmas(self, scheduler: Any, steps: int, grid: Grid) -> tuple[list[float] | None, Any]:
        if not scheduler.config.get("use_dynamic_shifting"):
            return None, None
        return None, linear_mu(scheduler, grid[0] * grid[1], 1.16)

    def place(self, transformer: Any, block: str, kind: str) -> Place | None:
        if not block.startswith("transformer_blocks."):
            return None
        module = module_of(transformer, f"{block}.{_MODULES[kind]}")
        return None if module is None else Place(module=module)

    def pixels_per_token(self, pipe: Any) -> int:
        return int(pipe.patch_size) * int(pipe.vae_scale_factor)

    def blocks(self, transformer: Any) -> Mapping[str, str]:
        # 3.0 Medium has as many blocks, but none with a second attention.
        is_medium = transformer.config.num_layers == 24 and transformer.config.dual_attention_layers
        return {f"transformer_blocks.{number}": "kv" for number in _MEDIUM if is_medium}

    def sizes(self, pipe: Any) -> list[tuple[str, int, int]]:
        wanted = pipe.transformer.config
        first, second = pipe.text_encoder.config, pipe.text_encoder_2.config
        pooled = first.projection_dim + second.projection_dim
        found = [
            ("the autoencoder", pipe.vae.config.latent_channels, wanted.in_channels),
            ("what the first two text encoders pool", pooled, wanted.pooled_projection_dim),
        ]
        if pipe.text_encoder_3 is not None:
            width = pipe.text_encoder_3.config.d_model
            found.append(("the third text encoder", width, wanted.joint_attention_dim))
        return found

    def longest_side(self, transformer: Any) -> int | None:
        longest: int | None = transformer.config.pos_embed_max_size
        return longest
