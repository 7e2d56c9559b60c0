"""A UNet with a ControlNet beside it (Zhang et al. 2023, "Adding Conditional Control to
Text-to-Image Diffusion Models", arXiv 2302.05543), as a `Network`.
"""

from typing import Any

import torch
from diffusers import ControlNetModel
from diffusers.utils.torch_utils import unwrap_module
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.models.model import Control
from pnpvideo.models.network import Batch, HookPoint
from pnpvideo.models.stable_diffusion.unet import UNet

_SAME = {
    "in_channels": "latent channels",
    "block_out_channels": "channels of its levels",
    "layers_per_block": "layers in a level",
    "addition_embed_type": "conditions beside the text",
    "projection_class_embeddings_input_dim": "channels of the conditions beside the text",
}
"""By name, in words: the settings that a ControlNet and its UNet must have in common."""


class ControlledUNet(UNet):
    """A UNet that adds the ControlNet's output for a frame's picture to its skip connections.

    It does so in every branch: in the source's too, as the source is inverted with it and would
    not be reproduced otherwise.

    In diffusers: `down_block_additional_residuals` and `mid_block_additional_residual`.
    """

    def __init__(self, unet: Any, pixels: int, controlnet: ControlNetModel, control: Control):
        """Take the other arguments as `UNet` does."""
        super().__init__(unet, pixels)
        self.control = control
        # It is the first half of a UNet, and sees the same latents and texts.
        self._half = UNet(controlnet, pixels)
        self.controlnet = self._half.unet

    @property
    def text_projections(self) -> list[HookPoint]:
        return [*super().text_projections, *self._half.text_projections]

    @property
    def layers_before_text(self) -> list[HookPoint]:
        return [*super().layers_before_text, *self._half.layers_before_text]

    def _conditions(self, batch: Batch) -> dict[str, Any]:
        conditions = super()._conditions(batch)
        if batch.timestep <= self.control.inactive_at_or_below:
            return conditions
        down, middle = self.controlnet(
            batch.latents.to(self.dtype),
            batch.timestep,
            controlnet_cond=self._pictures(batch),
            conditioning_scale=self.control.scale,
            return_dict=False,
            **self._half._conditions(batch),
        )
        return conditions | {
            "down_block_additional_residuals": down,
            "mid_block_additional_residual": middle,
        }

    def _pictures(self, batch: Batch) -> Tensor:
        """Return each latent's picture: (branches * frames, 3, height, width), 0 to 1."""
        if len(batch.pieces) != batch.piece_count:
            raise RuntimeError("a ControlNet needs the frame numbers of a batch")
        pictures = torch.from_numpy(self.control.pictures(batch.pieces)).movedim(-1, 1)
        pictures = pictures.to(batch.latents.device, self.dtype) / 255
        return pictures.repeat(len(batch.texts), 1, 1, 1)


def check_controlnet(controlnet: Any, unet: Any, pixels: int) -> None:
    """Raise InputError unless it is a ControlNet for this UNet.

    pixels: the pixels per side for one latent.
    """
    if not isinstance(unwrap_module(controlnet), ControlNetModel):
        raise InputError(
            f"a {type(controlnet).__name__} is not a single ControlNet; give one ControlNetModel"
        )
    own, model = controlnet.config, unet.config
    if own.cross_attention_dim != model.cross_attention_dim:
        raise InputError(
            f"the ControlNet needs text embeddings of {own.cross_attention_dim} channels, and the "
            f"model's have {model.cross_attention_dim}; give one for this kind of model (768: "
            "Stable Diffusion 1.x, 1024: 2.x, 2048: XL)"
        )
    for name, words in _SAME.items():
        # A list where it comes from a file.
        ours, theirs = (list(x) if isinstance(x, tuple) else x for x in (own[name], model[name]))
        if ours != theirs:
            raise InputError(
                f"the ControlNet is for another model: its {words} are {ours}, and the UNet's "
                f"{theirs}"
            )
    if own.conditioning_channels != 3:
        raise InputError(
            f"the ControlNet follows pictures with {own.conditioning_channels} channels; give one "
            "that follows RGB pictures"
        )
    if own.global_pool_conditions:
        raise InputError(
            "the ControlNet follows the colours of a picture and not its layout (shuffle); give "
            "one that follows layout, such as edges, depth or poses"
        )
    shrinks = 2 ** (len(own.conditioning_embedding_out_channels) - 1)
    if shrinks != pixels:
        raise InputError(
            f"the ControlNet makes pictures {shrinks} times smaller, and the model's autoencoder "
            f"{pixels} times; give one for this model"
        )
