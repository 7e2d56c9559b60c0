"""Identification of a single model file by the names and shapes of its tensors."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers.loaders.single_file_utils import (
    CHECKPOINT_KEY_NAMES,
    DIFFUSERS_DEFAULT_PIPELINE_PATHS,
    infer_diffusers_model_type,
)
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pnpvideo.errors import InputError

_REMEDY = "give a whole Stable Diffusion 1.x, 2.x or XL model"
_SUPPORTED_TYPES = ("v1", "v2", "xl_base")
"""diffusers' names of the supported types. diffusers takes unknown models for v1."""
_V2_NORM = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"

_FILE_STARTS = {
    b"version https://git-lfs": "a pointer of Git LFS and not the file itself; run git lfs pull",
    b"GGUF": f"a quantised GGUF file; {_REMEDY} in safetensors",
    b"PK\x03\x04": f"a pickle, which can hold code and is not read; {_REMEDY} in safetensors",
    b"\x80": f"a pickle, which can hold code and is not read; {_REMEDY} in safetensors",
    b"<": "a web page; download the file itself",
}
"""Descriptions of files that are not safetensors, by their first bytes."""

_ADDITIONS = {
    r"^(ip_adapter|image_proj)\.": "an IP-Adapter; give it with --ip-adapter, beside a model",
    r"^(control_model|controlnet_\w+|input_hint_block|lllite_\w+|lora_controlnet)\b|"
    r"^zero_convs\.": "a ControlNet; give it with --controlnet, beside a model",
    r"^adapter\.|^body\.\d+\.(in_conv|block1|resnets)\b": "a T2I-Adapter, which adds to a model",
    r"(\.|_)lora(_|\.)?(A|B|down|up|linear_layer)?\.|^lora_|\.(hada_w1_a|lokr_w[12]\w*|oft_blocks|"
    r"dora_scale)$|^lycoris_": "a LoRA; give it with --lora, beside a model",
    r"motion_modules\.": "a motion module of AnimateDiff, which adds to a model",
    r"\.time_stack\.": f"a video model, Stable Video Diffusion; {_REMEDY}",
    r"^edm_vpred\.": f"a model of EDM's noise levels, as CosXL; {_REMEDY}",
    r"^depth_model\.": f"a depth-to-image model; {_REMEDY}",
    r"^noise_augmentor\.": f"an image variation model (unCLIP); {_REMEDY}",
    r"\A(emb_params|clip_[gl])$": "a textual inversion embedding, which adds to a model",
    r"\.quant_state\.bitsandbytes__|^scaled_fp8$|\.(scale_weight|weight_scale)$": (
        f"a quantised model; {_REMEDY}, unquantised"
    ),
}
"""Descriptions of other model files by patterns in tensor names, the most specific first."""

_BESIDE = "give the folder of its model with --model-config"
_FLOW_TYPES = ("flux", "sd3", "qwen", "z-image")
"""The beginnings of diffusers' names for types of models with a transformer."""
_TRANSFORMER = "a transformer of another family (such as FLUX, SD 3 or PixArt)"
_SINGLE_PARTS = {
    r"^(unet\.)?down_blocks\.|^((model\.)?diffusion_model\.)?input_blocks\.": "a UNet",
    r"^(first_stage_model\.|vae\.)?(en|de)coder\.(down|up|mid|conv_in)(_blocks?)?\b": (
        "an autoencoder (VAE)"
    ),
    r"^(taesd_)?((en|de)coder\.(layers\.)?)?\d+\.(conv\.\d+\.)?weight$": "a tiny autoencoder",
    r"^(vision_model|visual)\.": "an image encoder",
    r"^(model\.diffusion_model\.)?((single_|joint_)?transformer_|double_|single_|joint_)?"
    r"blocks\.\d+\.": _TRANSFORMER,
    r"text_model\.|^transformer\.resblocks\.|^encoder\.block\.|^shared\.|^model\.layers\.|"
    r"^(cond_stage_model|conditioner|text_encoders?)\.": "a text encoder",
    r"^(model\.\d+\.sub|conv_first|body\.\d+)\.": "an upscaler",
}
_CONTROLNETS = (
    "controlnet_cond_embedding.conv_in.weight",
    "control_model.input_hint_block.0.weight",
    "input_hint_block.0.weight",
)
"""Tensor names, one of which every ControlNet has: diffusers' and the original code's."""
_NEEDED_PARTS = {
    "UNet": ("model.diffusion_model.",),
    "autoencoder": ("first_stage_model.",),
    "text encoder": ("cond_stage_model.", "conditioner."),
}
"""Parts by the prefixes of tensor names in Stable Diffusion's original code."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A whole model. is_large: whether it is an SDXL model.

    noise: what the file states about its noise, as entries of a scheduler's configuration.
    guessed: the prediction type guessed from the weights; None if there is no need or no way.
    """

    is_large: bool
    noise: dict[str, object]
    guessed: str | None = None


def read_checkpoint(path: Path) -> Checkpoint:
    """Identify a file before it is loaded. Raise InputError if it is not a whole model."""
    with _open(path) as opened:
        tensors = _Tensors(opened)
        if (problem := _problem_of(tensors)) is not None:
            raise InputError(f"{path} is {problem}")
        return Checkpoint(
            is_large=_model_type(tensors) == "xl_base",
            noise=_stated_noise(tensors, opened.metadata() or {}),
            guessed=_guessed_prediction(tensors),
        )


def read_controlnet(path: Path) -> Mapping[str, Tensor]:
    """Read a file's tensors. Raise InputError if it is not a ControlNet."""
    with _open(path) as opened:
        tensors = _Tensors(opened)
        if "lora_controlnet" in tensors:
            raise InputError(f"{path} is a Control-LoRA; give a whole ControlNet")
        if not any(name in tensors for name in _CONTROLNETS):
            description = _problem_of(tensors) or "a whole model"
            raise InputError(
                f"{path} is not a ControlNet but {re.split('[;,(]', description)[0].strip()}"
            )
        return dict(tensors)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open a safetensors file. Raise InputError if it has another format."""
    if path.suffix != ".safetensors":
        description = "not a .safetensors file; other checkpoints can hold code and are not read"
        raise InputError(f"{path} is {_other_format(path) or description}")
    try:
        with safe_open(path, framework="pt") as opened:
            yield opened
    except (SafetensorError, OSError) as error:
        description = _other_format(path) or f"not a safetensors file: {error}"
        raise InputError(f"{path} is {description}") from None


def _other_format(path: Path) -> str | None:
    """Describe a file that cannot be opened as safetensors; None if it is unknown."""
    with path.open("rb") as file:
        start = file.read(32)
    return next(
        (
            description
            for first_bytes, description in _FILE_STARTS.items()
            if start.startswith(first_bytes)
        ),
        None,
    )


class _Tensors(Mapping[str, Tensor]):
    """The tensors of an open file, each read on demand."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._names = dict.fromkeys(file.keys())

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        tensor: Tensor = self._file.get_tensor(name)
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _problem_of(tensors: Mapping[str, Tensor]) -> str | None:
    """Describe tensors that are not a supported whole model, with a remedy; None if they are."""
    names = "\n".join(tensors)
    for pattern, description in _ADDITIONS.items():
        if re.search(pattern, names, re.MULTILINE):
            return description if ";" in description else f"{description}; {_REMEDY}"
    model_type = _model_type(tensors)
    if model_type not in _SUPPORTED_TYPES:
        example = DIFFUSERS_DEFAULT_PIPELINE_PATHS.get(model_type, {}).get(
            "pretrained_model_name_or_path"
        )
        remedy = _BESIDE if model_type.startswith(_FLOW_TYPES) else _REMEDY
        return f"a model of another family, such as {example or model_type}; {remedy}"
    missing = [
        part for part, prefixes in _NEEDED_PARTS.items() if not _any_starts(tensors, prefixes)
    ]
    if not missing:
        return None
    if "UNet" not in missing and _any_starts(tensors, ("model.diffusion_model.input_blocks.",)):
        return f"a Stable Diffusion model without its {' and '.join(missing)}; {_REMEDY}"
    for pattern, description in _SINGLE_PARTS.items():
        if re.search(pattern, names, re.MULTILINE):
            remedy = _BESIDE if description == _TRANSFORMER else _REMEDY
            return f"{description} alone; {remedy}"
    return f"not a known model (it holds {next(iter(tensors), 'nothing')}); {_REMEDY}"


def _model_type(tensors: Mapping[str, Tensor]) -> str:
    """Return diffusers' name of the model's type."""
    try:
        model_type = str(infer_diffusers_model_type(tensors))
    except (KeyError, ValueError, IndexError, AttributeError, UnboundLocalError):
        # A known family in an unknown size.
        return next(
            str(family)
            for family, names in CHECKPOINT_KEY_NAMES.items()
            if any(name in tensors for name in ([names] if isinstance(names, str) else names))
        )
    return model_type


def _any_starts(names: Mapping[str, Tensor], start: tuple[str, ...]) -> bool:
    return any(name.startswith(start) for name in names)


def _stated_noise(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, object]:
    """Return the noise that fine-tuned models state by empty tensors and metadata (modelspec)."""
    stated = metadata.get("modelspec.prediction_type", "").lower()
    noise: dict[str, object] = {}
    if "v_pred" in tensors or stated in ("v", "v_prediction", "v-prediction"):
        noise["prediction_type"] = "v_prediction"
    elif stated in ("epsilon", "eps"):
        noise["prediction_type"] = "epsilon"
    if "ztsnr" in tensors:
        # Sampling must start at the last noise level (Lin et al. 2024, section 3.3).
        noise |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return noise


def _guessed_prediction(tensors: Mapping[str, Tensor]) -> str | None:
    """Guess the prediction type of SD 2.x from a weight, as ComfyUI does; names do not show it."""
    if _model_type(tensors) != "v2" or _V2_NORM not in tensors:
        return None
    spread = float(tensors[_V2_NORM].float().std(unbiased=False))
    return "v_prediction" if spread > 0.09 else "epsilon"
