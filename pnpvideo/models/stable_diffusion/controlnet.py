"""A UNet with a ControlNet beside it (Zhang et al. 2023, "Adding Conditional Control to
Text-to-Image Diffusion Models", arXiv 2302.05543), as a `Network`.
"""

from typing import Any

import torch
from diffusers import ControlNetModel
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
"""What a ControlNet's configuration has to have as the UNet's, in words."""


class ControlledUNet(UNet):
    """What the ControlNet makes of a frame's picture is added to the UNet's skip connections, in
    every branch: that of the source too, as in its inversion, so that it comes back.

    In diffusers: `down_block_additional_residuals` and `mid_block_additional_residual`.
    """

    def __init__(self, unet: Any, pixels: int, controlnet: ControlNetModel, control: Control):
        """The rest is as for `UNet`."""
        super().__init__(unet, pixels)
        self.controlnet = controlnet
        self.control = control
        # It is the first half of a UNet, and sees the same latents and texts.
        self._half = UNet(controlnet, pixels)

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
            batch.latents.to(self.unet.dtype),
            batch.timestep,
            controlnet_cond=self._pictures(batch),
            conditioning_scale=self.control.scale,
            return_dict=False,
            **conditions,
        )
        return conditions | {
            "down_block_additional_residuals": down,
            "mid_block_additional_residual": middle,
        }

    def _pictures(self, batch: Batch) -> Tensor:
        """Of each latent's frame, (branches * frames, 3, height, width), 0 to 1."""
        if len(batch.pieces) != batch.piece_count:
            raise RuntimeError("a ControlNet has to be told the numbers of a batch's frames")
        pictures = torch.from_numpy(self.control.pictures(batch.pieces)).movedim(-1, 1)
        pictures = pictures.to(batch.latents.device, self.unet.dtype) / 255
        return pictures.repeat(len(batch.texts), 1, 1, 1)


def check_controlnet(controlnet: Any, unet: Any, pixels: int) -> None:
    """InputError unless it is a ControlNet for this UNet. pixels: of a side for one latent."""
    if not isinstance(controlnet, ControlNetModel):
        raise InputError(
            f"a {type(controlnet).__name__} is no single ControlNet; give one ControlNetModel"
        )
    own, model = controlnet.config, unet.config
    if own.cross_attention_dim != model.cross_attention_dim:
        raise InputError(
            f"the ControlNet is for texts of {own.cross_attention_dim} channels, and the model's "
            f"have {model.cross_attention_dim}; give one for this kind of model (768: Stable "
            "Diffusion 1.x, 1024: 2.x, 2048: XL)"
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
            f"the ControlNet follows pictures of {own.conditioning_channels} channels; give one "
            "that follows pictures in red, green and blue"
        )
    if own.global_pool_conditions:
        raise InputError(
            "the ControlNet follows the colours of a picture and not its places (shuffle); give "
            "one that follows places, such as for edges, depth or poses"
        )
    shrinks = 2 ** (len(own.conditioning_embedding_out_channels) - 1)
    if shrinks != pixels:
        raise InputError(
            f"the ControlNet has {shrinks} pixels of a picture for a latent, and the model's "
            f"autoencoder {pixels}; give one for this model"
        )
