"""Z-Image (Tongyi 2025, arXiv 2511.22699)."""

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
    timesteps_of,
)
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.options.method import PnPOptions

_MODULES = {
    "q": "attention.to_q",
    "k": "attention.to_k",
    "v": "attention.to_v",
    "f": "feed_forward",
}


class ZImage(Family):
    """One stream of [picture, text], each padded to a multiple of 32 tokens.

    The network predicts clean - noise and is given 1 - sigma. Its pipeline's guidance scale is one
    less than the usual, which is ours.
    """

    name = "Z-Image"
    encoders = ("text_encoder",)
    transformer = "ZImageTransformer2DModel"
    stacks = ("layers", "noise_refiner")

    @property
    def options(self) -> PnPOptions:
        return PnPOptions(steps=30, guidance_scale=4.0, tau_f=0.0, tau_a=0.2)

    def encode(self, pipe: Any, text: str) -> PromptEmbeddings:
        (hidden,), _ = pipe.encode_prompt([text], do_classifier_free_guidance=False)
        return PromptEmbeddings(hidden=hidden[None], lengths=(len(hidden),))

    def velocity(
        self, transformer: Any, latents: Tensor, timestep: float, texts: PromptEmbeddings
    ) -> Tensor:
        assert texts.lengths is not None
        pairs = zip(texts.hidden, texts.lengths, strict=True)
        output = transformer(
            list(latents[:, :, None].unbind()),
            (1000 - timesteps_of(latents, timestep)) / 1000,
            [hidden[:length] for hidden, length in pairs],
            return_dict=False,
        )[0]
        return -torch.stack(output)[:, :, 0]

    def sigmas(self, scheduler: Any, steps: int, grid: Grid) -> tuple[list[float] | None, Any]:
        return even_sigmas(steps), linear_mu(scheduler, grid[0] * grid[1])

    def place(self, transformer: Any, block: str, kind: str) -> Place | None:
        if not block.startswith(("layers.", "noise_refiner.")):
            return None
        module = module_of(transformer, f"{block}.{_MODULES[kind]}")
        return None if module is None else Place(module=module)

    def side(self, pipe: Any) -> int:
        return 1024

    def longest_side(self, transformer: Any) -> int | None:
        _, *sides = transformer.config.axes_lens
        return int(min(sides))

    def sizes(self, pipe: Any) -> list[tuple[str, int, int]]:
        wanted, width = pipe.transformer.config, pipe.text_encoder.config.hidden_size
        return [
            ("the autoencoder", pipe.vae.config.latent_channels, wanted.in_channels),
            ("the text encoder", width, wanted.cap_feat_dim),
        ]
