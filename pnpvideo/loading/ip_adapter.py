"""Finding and reading of an IP-Adapter's file and the folder of its image encoder."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import CLIPVisionModelWithProjection

from pnpvideo.errors import InputError
from pnpvideo.loading.hub import LOADING_ERRORS, one_line
from pnpvideo.loading.pretrained import load_pretrained
from pnpvideo.models.stable_diffusion.ip_adapter import PLAIN, State
from pnpvideo.options.paths import expanded

_ENCODER_FOLDER = "image_encoder"
"""The image encoder's folder, beside the adapter's file in published models."""
_KEY_WEIGHT = "ip_adapter.1.to_k_ip.weight"
_FACE_WEIGHTS = ("image_proj.norm.weight", "image_proj.perceiver_resampler.proj_in.weight")
"""Tensors, one of which adapters for faces have; they lack the plain adapter's first layer."""


def find_encoder(file: str | Path, encoder: str | Path | None) -> Path:
    """Return the folder of the image encoder. Raise InputError if there is none."""
    folder = expanded(file).parent / _ENCODER_FOLDER if encoder is None else Path(encoder)
    folder = expanded(folder)
    if not (folder / "config.json").is_file():
        raise InputError(
            f"there is no image encoder in {folder}; give its folder with image_encoder"
            if encoder is None
            else f"there is no image encoder in {folder}; give a folder of a CLIP vision model"
        )
    return folder


def read_ip_adapter(file: str | Path) -> State:
    """Read a file's weights for diffusers. Raise InputError if it is not a supported IP-Adapter."""
    path = expanded(file)
    if path.suffix != ".safetensors" or not path.is_file():
        raise InputError(f"there is no IP-Adapter {path}; give a .safetensors file")
    state: State = {"image_proj": {}, "ip_adapter": {}}
    try:
        with safe_open(path, framework="pt") as opened:
            names = list(opened.keys())
            if _KEY_WEIGHT not in names:
                raise InputError(f"{path} is not an IP-Adapter: it has no {_KEY_WEIGHT}")
            if PLAIN not in names and any(name in names for name in _FACE_WEIGHTS):
                raise InputError(
                    f"{path} is an IP-Adapter for faces (FaceID), which needs another network; "
                    "give an IP-Adapter for pictures"
                )
            for name in names:
                part, _, inner = name.partition(".")
                if part in state:
                    state[part][inner] = opened.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not an IP-Adapter: {error}") from None
    return state


def load_image_encoder(folder: Path, dtype: torch.dtype) -> Any:
    """Load an image encoder, from safetensors only. Raise InputError if it cannot be loaded."""
    try:
        encoder, info = load_pretrained(
            CLIPVisionModelWithProjection.from_pretrained,
            folder,
            output_loading_info=True,
            dtype=dtype,
        )
    except InputError:
        raise
    except LOADING_ERRORS as error:
        reason = one_line(error)
        raise InputError(f"the image encoder {folder} cannot be loaded: {reason}") from None
    if missing := sorted(info["missing_keys"]):
        raise InputError(
            f"the image encoder {folder} cannot be loaded: it lacks {len(missing)} weights, such "
            f"as {missing[0]}"
        )
    return encoder
