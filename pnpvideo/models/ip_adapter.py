"""An IP-Adapter (Ye et al. 2023, "IP-Adapter: Text Compatible Image Prompt Adapter", arXiv
2308.06721): a picture beside the text that says what results show. Read, checked and put into a
UNet; its processors stand in the layers that see the text, where the method has none.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.embeddings import ImageProjection
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from pnpvideo.errors import InputError
from pnpvideo.models.load import UNUSABLE, one_line

_BESIDE = "image_encoder"
"""The folder of its image encoder, as published ones have it beside them."""
_TEXTS = "ip_adapter.1.to_k_ip.weight"
_FACES = ("image_proj.norm.weight", "image_proj.perceiver_resampler.proj_in.weight")
"""Of which adapters of faces have one, and not the first layer of the plain one."""
_PLAIN = "image_proj.proj.weight"
_WIDTHS = {
    _PLAIN: "projection_dim",
    "image_proj.proj.0.weight": "hidden_size",
    "image_proj.proj_in.weight": "hidden_size",
}
"""The first layer that sees a picture's embedding, and the encoder's name of its channels."""

State = dict[str, dict[str, Tensor]]


def find_encoder(file: str | Path, encoder: str | Path | None) -> Path:
    """The folder of the image encoder. InputError where there is none."""
    place = Path(file).expanduser().parent / _BESIDE if encoder is None else Path(encoder)
    place = place.expanduser()
    if not (place / "config.json").is_file():
        raise InputError(
            f"there is no image encoder in {place}; give its folder with image_encoder"
            if encoder is None
            else f"there is no image encoder in {place}; give a folder of a CLIP vision model"
        )
    return place


def read_ip_adapter(file: str | Path) -> State:
    """A file's weights, as diffusers takes them. InputError where it is no IP-Adapter for us."""
    path = Path(file).expanduser()
    if path.suffix != ".safetensors" or not path.is_file():
        raise InputError(f"there is no IP-Adapter {path}; give a .safetensors file")
    state: State = {"image_proj": {}, "ip_adapter": {}}
    try:
        with safe_open(path, framework="pt") as opened:
            names = list(opened.keys())
            if _TEXTS not in names:
                raise InputError(f"{path} is no IP-Adapter: it has no {_TEXTS}")
            if _PLAIN not in names and any(name in names for name in _FACES):
                raise InputError(
                    f"{path} is an IP-Adapter of faces (FaceID), whose pictures another network "
                    "reads; give one for pictures"
                )
            for name in names:
                part, _, inner = name.partition(".")
                if part in state:
                    state[part][inner] = opened.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is no IP-Adapter: {error}") from None
    return state


def load_image_encoder(folder: Path, dtype: torch.dtype) -> Any:
    """From safetensors only. InputError where it cannot be loaded."""
    try:
        encoder, info = CLIPVisionModelWithProjection.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, dtype=dtype
        )
    except UNUSABLE as error:
        why = one_line(error)
        raise InputError(f"the image encoder {folder} cannot be loaded: {why}") from None
    if missing := sorted(info["missing_keys"]):
        raise InputError(
            f"the image encoder {folder} cannot be loaded: it lacks {len(missing)} weights, such "
            f"as {missing[0]}"
        )
    return encoder


def check_ip_adapter(state: State, unet: Any, encoder: Any) -> None:
    """InputError where it is for another model, or for another image encoder."""
    wide, wanted = state["ip_adapter"]["1.to_k_ip.weight"].shape[1], unet.config.cross_attention_dim
    if wide != wanted:
        raise InputError(
            f"the IP-Adapter is for texts of {wide} channels, and the model's have {wanted}; give "
            "one for this kind of model (768: Stable Diffusion 1.x, 2048: XL)"
        )
    layers = [name for name in unet.attn_processors if not name.endswith("attn1.processor")]
    found = [name for name in state["ip_adapter"] if name.endswith("to_k_ip.weight")]
    if len(layers) != len(found):
        raise InputError(
            f"the IP-Adapter is for {len(found)} layers that see the text, and the UNet has "
            f"{len(layers)}; give one for this kind of model"
        )
    for name, side in _WIDTHS.items():
        weight = state["image_proj"].get(name.removeprefix("image_proj."))
        if weight is not None and weight.shape[1] != getattr(encoder.config, side):
            raise InputError(
                f"the IP-Adapter is for pictures of {weight.shape[1]} channels, and the image "
                f"encoder's have {getattr(encoder.config, side)}; give the encoder that it was "
                "trained with"
            )


def embed_image(parts: Any, image: Image.Image | None) -> Tensor:
    """What an IP-Adapter sees of a picture, or of none: (1, 1, ...), as diffusers gives it."""
    (projection,) = parts.unet.encoder_hid_proj.image_projection_layers
    given = Image.new("RGB", (8, 8)) if image is None else image.convert("RGB")
    of_image, of_none = StableDiffusionPipeline.encode_image(
        parts, given, parts._execution_device, 1, not isinstance(projection, ImageProjection)
    )
    chosen: Tensor = of_none if image is None else of_image
    return chosen[None]


def scales_of(unet: Any) -> list[float]:
    """How much it counts in each layer."""
    found = (getattr(one, "scale", None) for one in unet.attn_processors.values())
    return [float(scale[0]) for scale in found if isinstance(scale, list) and scale]
