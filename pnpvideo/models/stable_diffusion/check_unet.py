"""Check that a UNet is one that Stable Diffusion's parts can drive."""

from typing import Any

from pnpvideo.errors import InputError
from pnpvideo.models.stable_diffusion.unet import UNet, default_layers

IP_IMAGE_PROJ = "ip_image_proj"
"""The type of conditioning that diffusers gives a UNet with an IP-Adapter."""


def check_unet(unet: Any, vae: Any, *, two_encoders: bool, image_encoder: bool) -> None:
    """Raise InputError unless latents, texts and an optional picture are all that a UNet needs.

    two_encoders: whether the model has a second text encoder. image_encoder: whether it has one.
    """
    config = unet.config
    channels = (config.in_channels, config.out_channels)
    if channels != (vae.config.latent_channels,) * 2:
        raise InputError(
            f"the UNet has {channels[0]} input and {channels[1]} output channels for "
            f"{vae.config.latent_channels} latent ones; give a text-to-image model "
            "(not an inpainting, depth or pix2pix model)"
        )
    if config.encoder_hid_dim_type not in (None, IP_IMAGE_PROJ):
        raise InputError(
            f"the UNet needs {config.encoder_hid_dim_type} in addition to texts, which no "
            "Stable Diffusion model does"
        )
    if config.encoder_hid_dim_type == IP_IMAGE_PROJ and not image_encoder:
        raise InputError("the UNet has an IP-Adapter, and no image encoder is given for it")
    if config.class_embed_type is not None or config.num_class_embeds is not None:
        raise InputError(
            "the UNet needs class labels in addition to texts, as those of upscalers and unCLIP "
            "models do; give a text-to-image model without them"
        )
    if config.addition_embed_type not in (None, "text", "text_time"):
        raise InputError(
            f"the UNet needs {config.addition_embed_type} in addition to texts, which no "
            "Stable Diffusion model does"
        )
    if config.addition_embed_type == "text_time" and not two_encoders:
        raise InputError(
            "the UNet is SDXL's, which needs a second text encoder, and the model has none; give a "
            "whole model"
        )
    layers, network = default_layers(unet), UNet(unet, 1)
    if not any(network.attentions(place) for place in layers.attentions):
        raise InputError(
            "the UNet has no self-attention to inject into; give a Stable Diffusion 1.x, 2.x or XL "
            "model"
        )
