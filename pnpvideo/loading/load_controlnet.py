"""Loading of a ControlNet: a diffusers folder, a hub id or one file."""

import re
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from diffusers import ControlNetModel
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

from pnpvideo.catalogue.find_model import HUB_ID, download_elsewhere
from pnpvideo.errors import InputError
from pnpvideo.files.read_text import parse_json, read_text
from pnpvideo.loading.checkpoint import read_controlnet
from pnpvideo.loading.hub import (
    HUB_OPTIONS,
    LOADING_ERRORS,
    find_variant,
    one_line,
    reach_hub,
    unreachable,
)
from pnpvideo.options.paths import expanded

_CONFIG = "config.json"
_DOWNSAMPLING_WEIGHT = re.compile(r"controlnet_cond_embedding\.blocks\.\d*[13579]\.weight")
"""The downsampling layers among those that see its picture."""


def check_named(name: str | Path) -> None:
    """Raise InputError if no ControlNet has this name. The hub is not asked."""
    path = expanded(name)
    if path.is_file():
        read_controlnet(path)
    elif path.is_dir():
        _check_folder(path)
    elif not HUB_ID.fullmatch(str(name)):
        raise InputError(
            f"there is no ControlNet {str(name)!r}; give a diffusers folder, a hub id such as "
            "owner/name, or a .safetensors file"
        )


def load_controlnet(
    name: str | Path, unet: Any, dtype: torch.dtype, options: dict[str, Any]
) -> ControlNetModel:
    """Load a ControlNet, from safetensors only. `check_controlnet` checks that it fits the UNet.

    unet: the model's; a file without a config.json beside it has its shape. options: diffusers',
    for the hub. Raise InputError if it cannot be loaded, RunError if the hub cannot be reached.
    """
    check_named(name)
    path = expanded(name)
    if path.is_file():
        return _load_file(path, unet).to(dtype).eval()
    on_hub = {k: v for k, v in options.items() if k in (*HUB_OPTIONS, "revision")}
    if not path.is_dir():
        on_hub = reach_hub(on_hub)
    try:
        files = _list_files(str(name), path, on_hub)
        controlnet = ControlNetModel.from_pretrained(
            str(path) if path.is_dir() else str(name),
            variant=find_variant(f"controlnet/{file}" for file in files),
            use_safetensors=True,
            dtype=dtype,
            **on_hub,
        )
    except LOADING_ERRORS as error:
        if on_hub.get("local_files_only"):
            raise unreachable(
                f"the ControlNet {name}", download_elsewhere(str(name), "ControlNet")
            ) from None
        raise InputError(f"the ControlNet {name} cannot be loaded: {one_line(error)}") from None
    missing = [key for key, weight in controlnet.named_parameters() if weight.is_meta]
    _check_weights(name, missing)
    return controlnet.eval()


def _check_folder(folder: Path) -> None:
    if (folder / "model_index.json").is_file():
        part = folder / "controlnet"
        remedy = f"give {part}" if part.is_dir() else "give it as the model"
        raise InputError(f"{folder} is a whole model and not a ControlNet; {remedy}")
    class_name = None
    if (folder / _CONFIG).is_file():
        class_name = _config(folder).get("_class_name")
        if class_name == ControlNetModel.__name__:
            return
    elif files := sorted(folder.glob("*.safetensors")):
        raise InputError(
            f"{folder} has no {_CONFIG}; to load a single file, give its path: {files[0]}"
        )
    problem = f"holds a {class_name}" if class_name else f"has no {_CONFIG} that names one"
    raise InputError(f"{folder} is not a ControlNet: it {problem}; give a diffusers ControlNet")


def _config(folder: Path) -> dict[str, Any]:
    config = parse_json(read_text(folder / _CONFIG), folder / _CONFIG)
    return config if isinstance(config, dict) else {}


def _list_files(name: str, folder: Path, on_hub: dict[str, Any]) -> list[str]:
    if not folder.is_dir():
        if not on_hub.get("local_files_only"):
            options = {k: v for k, v in on_hub.items() if k in ("revision", "token")}
            return huggingface_hub.list_repo_files(name, **options)
        options = {k: v for k, v in on_hub.items() if k in ("revision", "cache_dir")}
        folder = Path(str(huggingface_hub.try_to_load_from_cache(name, _CONFIG, **options))).parent
    return [path.name for path in folder.glob("*.safetensors")]


def _load_file(path: Path, unet: Any) -> ControlNetModel:
    weights = read_controlnet(path)
    with torch.device("meta"):  # The file has the weights.
        if (path.parent / _CONFIG).is_file():
            _check_folder(path.parent)
            controlnet = ControlNetModel.from_config(_config(path.parent))
        else:
            controlnet = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
    converted = convert_controlnet_checkpoint(weights, controlnet.config)
    converted = {name: tensor for name, tensor in converted.items() if tensor is not None}
    steps = [
        len(converted[name])
        for name in sorted(filter(_DOWNSAMPLING_WEIGHT.fullmatch, converted), key=_block_number)
    ]
    first = converted.get("controlnet_cond_embedding.conv_in.weight")
    channels = controlnet.config.conditioning_embedding_out_channels
    if first is not None and (len(first), *steps) != tuple(channels):
        with torch.device("meta"):
            controlnet = ControlNetModel.from_config(
                controlnet.config, conditioning_embedding_out_channels=(len(first), *steps)
            )
    expected = controlnet.state_dict()
    misfits = [
        key
        for key, tensor in expected.items()
        if key in converted and converted[key].shape != tensor.shape
    ]
    if misfits:
        name = next((name for name in misfits if name.endswith("attn2.to_k.weight")), misfits[0])
        shape, expected_shape = tuple(converted[name].shape), tuple(expected[name].shape)
        raise InputError(
            f"{path} is not a ControlNet for this model: its {name} has the shape {shape} and not "
            f"{expected_shape}"
        )
    if unknown := sorted(converted.keys() - expected.keys()):
        raise InputError(
            f"{path} is a ControlNet of another kind or for another model: it has {unknown[0]}; "
            "if it has a config.json, put that beside it"
        )
    _check_weights(path, sorted(expected.keys() - converted.keys()))
    controlnet.load_state_dict(converted, assign=True)
    return controlnet


def _block_number(name: str) -> int:
    return int(name.split(".")[2])


def _check_weights(name: str | Path, missing: list[str]) -> None:
    if missing:
        raise InputError(
            f"the ControlNet {name} cannot be loaded: it lacks {len(missing)} weights, such as "
            f"{missing[0]}"
        )
