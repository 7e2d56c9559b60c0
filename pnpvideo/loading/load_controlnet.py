"""A ControlNet by name: a diffusers folder, a hub id or one file."""

import json
import re
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from diffusers import ControlNetModel
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

from pnpvideo.errors import InputError
from pnpvideo.loading.checkpoint import read_controlnet
from pnpvideo.loading.hub import (
    HUB_ID,
    HUB_OPTIONS,
    UNUSABLE,
    one_line,
    reach_hub,
    unreachable,
    variant_of,
)

_CONFIG = "config.json"
_STEP = re.compile(r"controlnet_cond_embedding\.blocks\.\d*[13579]\.weight")
"""Of the layers that see its picture, those to a smaller size."""


def check_named(given: str | Path) -> None:
    """InputError where no ControlNet is there under a name; what the hub has is not asked."""
    path = Path(given).expanduser()
    if path.is_file():
        read_controlnet(path)
    elif path.is_dir():
        _check_folder(path)
    elif not HUB_ID.fullmatch(str(given)):
        raise InputError(
            f"there is no ControlNet {str(given)!r}; give a diffusers folder, a hub id such as "
            "owner/name, or a .safetensors file"
        )


def load_controlnet(
    given: str | Path, unet: Any, dtype: torch.dtype, options: dict[str, Any]
) -> ControlNetModel:
    """Load it, from safetensors only, perhaps for another UNet than this (see `check_controlnet`).

    unet: the model's, whose shape a file without a config.json beside it has. options: diffusers',
    for the hub. Raises InputError where it cannot be loaded, RunError without the hub.
    """
    check_named(given)
    path = Path(given).expanduser()
    if path.is_file():
        return _of_file(path, unet).to(dtype).eval()
    on_hub = {k: v for k, v in options.items() if k in (*HUB_OPTIONS, "revision")}
    if not path.is_dir():
        on_hub = reach_hub(on_hub)
    try:
        files = _files_of(str(given), path, on_hub)
        controlnet = ControlNetModel.from_pretrained(
            str(path) if path.is_dir() else str(given),
            variant=variant_of(f"controlnet/{name}" for name in files),
            use_safetensors=True,
            dtype=dtype,
            **on_hub,
        )
    except UNUSABLE as error:
        if on_hub.get("local_files_only"):
            raise unreachable(f"the ControlNet {given}", "name a folder") from None
        raise InputError(f"the ControlNet {given} cannot be loaded: {one_line(error)}") from None
    missing = [name for name, weight in controlnet.named_parameters() if weight.is_meta]
    _check_weights(given, missing)
    return controlnet.eval()


def _check_folder(folder: Path) -> None:
    if (folder / "model_index.json").is_file():
        part = folder / "controlnet"
        remedy = f"give {part}" if part.is_dir() else "give it as the model"
        raise InputError(f"{folder} is a whole model and no ControlNet; {remedy}")
    kind = None
    if (folder / _CONFIG).is_file():
        kind = _config(folder).get("_class_name")
        if kind == ControlNetModel.__name__:
            return
    elif files := sorted(folder.glob("*.safetensors")):
        raise InputError(f"{folder} has no {_CONFIG}; to load a single file name it: {files[0]}")
    holds = f"holds a {kind}" if kind else f"has no {_CONFIG} that names one"
    raise InputError(f"{folder} is no ControlNet: it {holds}; give a diffusers ControlNet")


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / _CONFIG} cannot be read: {one_line(error)}") from None
    return found if isinstance(found, dict) else {}


def _files_of(name: str, folder: Path, on_hub: dict[str, Any]) -> list[str]:
    if not folder.is_dir():
        if not on_hub.get("local_files_only"):
            known = {k: v for k, v in on_hub.items() if k in ("revision", "token")}
            return huggingface_hub.list_repo_files(name, **known)
        known = {k: v for k, v in on_hub.items() if k in ("revision", "cache_dir")}
        folder = Path(str(huggingface_hub.try_to_load_from_cache(name, _CONFIG, **known))).parent
    return [path.name for path in folder.glob("*.safetensors")]


def _of_file(path: Path, unet: Any) -> ControlNetModel:
    weights = read_controlnet(path)
    with torch.device("meta"):  # Its weights are those of the file.
        if (path.parent / _CONFIG).is_file():
            _check_folder(path.parent)
            controlnet = ControlNetModel.from_config(_config(path.parent))
        else:
            controlnet = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
    found = convert_controlnet_checkpoint(weights, controlnet.config)
    found = {name: tensor for name, tensor in found.items() if tensor is not None}
    steps = [len(found[name]) for name in sorted(filter(_STEP.fullmatch, found), key=_place)]
    first = found.get("controlnet_cond_embedding.conv_in.weight")
    own = controlnet.config.conditioning_embedding_out_channels
    if first is not None and (len(first), *steps) != tuple(own):
        with torch.device("meta"):
            controlnet = ControlNetModel.from_config(
                controlnet.config, conditioning_embedding_out_channels=(len(first), *steps)
            )
    wanted = controlnet.state_dict()
    other = [n for n, tensor in wanted.items() if n in found and found[n].shape != tensor.shape]
    if other:
        name = next((name for name in other if name.endswith("attn2.to_k.weight")), other[0])
        ours, theirs = tuple(found[name].shape), tuple(wanted[name].shape)
        raise InputError(
            f"{path} is no ControlNet for this model: its {name} is of shape {ours} and not "
            f"{theirs}"
        )
    if strange := sorted(found.keys() - wanted.keys()):
        raise InputError(
            f"{path} is a ControlNet of another kind or for another model: it has {strange[0]}; "
            "if it came with a config.json, put that beside it"
        )
    _check_weights(path, sorted(wanted.keys() - found.keys()))
    controlnet.load_state_dict(found, assign=True)
    return controlnet


def _place(name: str) -> int:
    return int(name.split(".")[2])


def _check_weights(given: str | Path, missing: list[str]) -> None:
    if missing:
        raise InputError(
            f"the ControlNet {given} cannot be loaded: it lacks {len(missing)} weights, such as "
            f"{missing[0]}"
        )
