"""What a single file holds, as the names and shapes of its tensors say."""

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

_WANTED = "give a whole Stable Diffusion 1.x, 2.x or XL model"
_OURS = ("v1", "v2", "xl_base")
"""Of diffusers' types of models. It takes what it does not know for v1."""
_V2_NORM = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"

_STARTS = {
    b"version https://git-lfs": "a pointer of Git LFS and not the file itself; run git lfs pull",
    b"GGUF": f"a quantised GGUF file; {_WANTED} in safetensors",
    b"PK\x03\x04": f"a pickle, which can hold code and is not read; {_WANTED} in safetensors",
    b"\x80": f"a pickle, which can hold code and is not read; {_WANTED} in safetensors",
    b"<": "a web page; download the file itself",
}
"""Of files that are no safetensors files, whatever their name."""

_ADDITIONS = {
    r"^(ip_adapter|image_proj)\.": "an IP-Adapter; give it with --ip-adapter, beside a model",
    r"^(control_model|controlnet_\w+|input_hint_block|lllite_\w+|lora_controlnet)\b|"
    r"^zero_convs\.": "a ControlNet; give it with --controlnet, beside a model",
    r"^adapter\.|^body\.\d+\.(in_conv|block1|resnets)\b": "a T2I-Adapter, which adds to a model",
    r"(\.|_)lora(_|\.)?(A|B|down|up|linear_layer)?\.|^lora_|\.(hada_w1_a|lokr_w[12]\w*|oft_blocks|"
    r"dora_scale)$|^lycoris_": "a LoRA; give it with --lora, beside a model",
    r"motion_modules\.": "a motion module of AnimateDiff, which adds to a model",
    r"\.time_stack\.": f"a video model, Stable Video Diffusion; {_WANTED}",
    r"^edm_vpred\.": f"a model of EDM's noise levels, as CosXL; {_WANTED}",
    r"^depth_model\.": f"a depth-to-image model; {_WANTED}",
    r"^noise_augmentor\.": f"an image variation model (unCLIP); {_WANTED}",
    r"\A(emb_params|clip_[gl])$": "a textual inversion embedding, which adds to a model",
    r"\.quant_state\.bitsandbytes__|^scaled_fp8$|\.(scale_weight|weight_scale)$": (
        f"a quantised model; {_WANTED}, unquantised"
    ),
}
"""By what is in the names of their tensors. First those that hold what others hold too."""

_PARTS = {
    r"^(unet\.)?down_blocks\.|^((model\.)?diffusion_model\.)?input_blocks\.": "a UNet",
    r"^(first_stage_model\.|vae\.)?(en|de)coder\.(down|up|mid|conv_in)(_blocks?)?\b": (
        "an autoencoder (VAE)"
    ),
    r"^(taesd_)?((en|de)coder\.(layers\.)?)?\d+\.(conv\.\d+\.)?weight$": "a tiny autoencoder",
    r"^(vision_model|visual)\.": "an image encoder",
    r"^(model\.diffusion_model\.)?((single_|joint_)?transformer_|double_|single_|joint_)?"
    r"blocks\.\d+\.": ("a transformer of another family (such as FLUX, SD 3 or PixArt)"),
    r"text_model\.|^transformer\.resblocks\.|^encoder\.block\.|^shared\.|^model\.layers\.|"
    r"^(cond_stage_model|conditioner|text_encoders?)\.": "a text encoder",
    r"^(model\.\d+\.sub|conv_first|body\.\d+)\.": "an upscaler",
}
_CONTROLNETS = (
    "controlnet_cond_embedding.conv_in.weight",
    "control_model.input_hint_block.0.weight",
    "input_hint_block.0.weight",
)
"""Names of which a ControlNet has one: diffusers' and the original code's."""
_WHOLE = {
    "UNet": ("model.diffusion_model.",),
    "autoencoder": ("first_stage_model.",),
    "text encoder": ("cond_stage_model.", "conditioner."),
}
"""By the beginnings of names in the original code of Stable Diffusion."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A whole model. is_large: of SDXL's kind.

    noise: what the file says of its noise, as entries of a scheduler's configuration.
    guessed: the prediction that its weights look like, where it does not say it.
    """

    is_large: bool
    noise: dict[str, object]
    guessed: str | None = None


def read_checkpoint(path: Path) -> Checkpoint:
    """What is known of a file before it is loaded. InputError where it is no whole model."""
    with _opened(path) as opened:
        tensors = _Tensors(opened)
        if (what := _other_than_whole(tensors)) is not None:
            raise InputError(f"{path} is {what}")
        return Checkpoint(
            is_large=_type_of(tensors) == "xl_base",
            noise=_marked_noise(tensors, opened.metadata() or {}),
            guessed=_guessed_prediction(tensors),
        )


def read_controlnet(path: Path) -> Mapping[str, Tensor]:
    """A file's tensors. InputError where it is no ControlNet."""
    with _opened(path) as opened:
        tensors = _Tensors(opened)
        if "lora_controlnet" in tensors:
            raise InputError(f"{path} is a Control-LoRA; give a whole ControlNet")
        if not any(name in tensors for name in _CONTROLNETS):
            what = _other_than_whole(tensors) or "a whole model"
            raise InputError(f"{path} is no ControlNet but {re.split('[;,(]', what)[0].strip()}")
        return dict(tensors)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, open. InputError where it is of another form."""
    if path.suffix != ".safetensors":
        form = "not a .safetensors file; other checkpoints can hold code and are not read"
        raise InputError(f"{path} is {_other_form(path) or form}")
    try:
        with safe_open(path, framework="pt") as opened:
            yield opened
    except (SafetensorError, OSError) as error:
        form = _other_form(path) or f"not a safetensors file: {error}"
        raise InputError(f"{path} is {form}") from None


def _other_form(path: Path) -> str | None:
    """What a file that cannot be opened as safetensors is, in words."""
    with path.open("rb") as file:
        start = file.read(32)
    return next((what for sign, what in _STARTS.items() if start.startswith(sign)), None)


class _Tensors(Mapping[str, Tensor]):
    """The tensors of an open file, each read when it is asked for."""

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


def _other_than_whole(tensors: Mapping[str, Tensor]) -> str | None:
    """What tensors are, in words, and what is wanted; None where they are a model of ours."""
    names = "\n".join(tensors)
    for pattern, words in _ADDITIONS.items():
        if re.search(pattern, names, re.MULTILINE):
            return words if ";" in words else f"{words}; {_WANTED}"
    kind = _type_of(tensors)
    if kind not in _OURS:
        like = DIFFUSERS_DEFAULT_PIPELINE_PATHS.get(kind, {}).get("pretrained_model_name_or_path")
        return f"a model of another family, as {like or kind}; {_WANTED}"
    missing = [part for part, start in _WHOLE.items() if not _any_starts(tensors, start)]
    if not missing:
        return None
    if "UNet" not in missing and _any_starts(tensors, ("model.diffusion_model.input_blocks.",)):
        return f"a Stable Diffusion model without its {' and '.join(missing)}; {_WANTED}"
    for pattern, words in _PARTS.items():
        if re.search(pattern, names, re.MULTILINE):
            return f"{words} alone; {_WANTED}"
    return f"no model that is known here (it holds {next(iter(tensors), 'nothing')}); {_WANTED}"


def _type_of(tensors: Mapping[str, Tensor]) -> str:
    """diffusers' name of the type of model."""
    try:
        kind = str(infer_diffusers_model_type(tensors))
    except (KeyError, ValueError, IndexError, AttributeError, UnboundLocalError):
        # Of a family that it knows, in a size that it does not.
        return next(
            str(family)
            for family, names in CHECKPOINT_KEY_NAMES.items()
            if any(name in tensors for name in ([names] if isinstance(names, str) else names))
        )
    return kind


def _any_starts(names: Mapping[str, Tensor], start: tuple[str, ...]) -> bool:
    return any(name.startswith(start) for name in names)


def _marked_noise(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, object]:
    """By the empty tensors and the metadata (modelspec) that fine-tuned models carry."""
    said = metadata.get("modelspec.prediction_type", "").lower()
    noise: dict[str, object] = {}
    if "v_pred" in tensors or said in ("v", "v_prediction", "v-prediction"):
        noise["prediction_type"] = "v_prediction"
    elif said in ("epsilon", "eps"):
        noise["prediction_type"] = "epsilon"
    if "ztsnr" in tensors:
        # Sampling has to begin at the last level (Lin et al. 2024, section 3.3).
        noise |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return noise


def _guessed_prediction(tensors: Mapping[str, Tensor]) -> str | None:
    """SD 2.x comes in both kinds, and no name tells them apart: ComfyUI's measure does."""
    if _type_of(tensors) != "v2" or _V2_NORM not in tensors:
        return None
    spread = float(tensors[_V2_NORM].float().std(unbiased=False))
    return "v_prediction" if spread > 0.09 else "epsilon"
