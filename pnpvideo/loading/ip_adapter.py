"""An IP-Adapter's file and the folder of its image encoder: found and read."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import CLIPVisionModelWithProjection

from pnpvideo.errors import InputError
from pnpvideo.loading.hub import UNUSABLE, one_line
from pnpvideo.models.stable_diffusion.ip_adapter import PLAIN, State

_BESIDE = "image_encoder"
"""The folder of its image encoder, as published ones have it beside them."""
_TEXTS = "ip_adapter.1.to_k_ip.weight"
_FACES = ("image_proj.norm.weight", "image_proj.perceiver_resampler.proj_in.weight")
"""Of which adapters of faces have one, and not the first layer of the plain one."""


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
            if PLAIN not in names and any(name in names for name in _FACES):
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
