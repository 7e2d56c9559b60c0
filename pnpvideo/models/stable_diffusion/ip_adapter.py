"""An IP-Adapter (Ye et al. 2023, "IP-Adapter: Text Compatible Image Prompt Adapter", arXiv
2308.06721): a picture beside the text that says what results show. Checked against a UNet; its
processors are set in the cross-attention layers, where the method has none.
"""

from typing import Any

from diffusers import StableDiffusionPipeline
from diffusers.models.embeddings import ImageProjection
from PIL import Image
from torch import Tensor

from pnpvideo.errors import InputError

PLAIN = "image_proj.proj.weight"
_WIDTHS = {
    PLAIN: "projection_dim",
    "image_proj.proj.0.weight": "hidden_size",
    "image_proj.proj_in.weight": "hidden_size",
}
"""The first layer that sees a picture's embedding, and the encoder's name of its channels."""

State = dict[str, dict[str, Tensor]]


def check_ip_adapter(state: State, unet: Any, encoder: Any) -> None:
    """Raise InputError if it is for another model, or for another image encoder."""
    wide, wanted = state["ip_adapter"]["1.to_k_ip.weight"].shape[1], unet.config.cross_attention_dim
    if wide != wanted:
        raise InputError(
            f"the IP-Adapter needs text embeddings of {wide} channels, and the model's have "
            f"{wanted}; give one for this kind of model (768: Stable Diffusion 1.x, 2048: XL)"
        )
    layers = [name for name in unet.attn_processors if not name.endswith("attn1.processor")]
    found = [name for name in state["ip_adapter"] if name.endswith("to_k_ip.weight")]
    if len(layers) != len(found):
        raise InputError(
            f"the IP-Adapter is for {len(found)} cross-attention layers, and the UNet has "
            f"{len(layers)}; give one for this kind of model"
        )
    for name, side in _WIDTHS.items():
        weight = state["image_proj"].get(name.removeprefix("image_proj."))
        if weight is not None and weight.shape[1] != getattr(encoder.config, side):
            raise InputError(
                f"the IP-Adapter needs image embeddings of {weight.shape[1]} channels, and the "
                f"image encoder's have {getattr(encoder.config, side)}; give the encoder that it "
                "was trained with"
            )


def embed_image(parts: Any, image: Image.Image | None) -> Tensor:
    """Embed a picture, or none, for an IP-Adapter: (1, 1, ...), as diffusers does."""
    (projection,) = parts.unet.encoder_hid_proj.image_projection_layers
    given = Image.new("RGB", (8, 8)) if image is None else image.convert("RGB")
    of_image, of_none = StableDiffusionPipeline.encode_image(
        parts, given, parts._execution_device, 1, not isinstance(projection, ImageProjection)
    )
    chosen: Tensor = of_none if image is None else of_image
    return chosen[None]


def scales_of(unet: Any) -> list[float]:
    """Return its scale in each layer."""
    found = (getattr(one, "scale", None) for one in unet.attn_processors.values())
    return [float(scale[0]) for scale in found if isinstance(scale, list) and scale]
