"""Finding, reading and identification of LoRA files and similar ones."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.loading.adapter_file import ADAPTER_FILE, as_of_pipelines
from pnpvideo.options.paths import expanded

_FOLDERS_FILES = ("pytorch_lora_weights.safetensors", ADAPTER_FILE)
PREFIXES = {
    "unet": ("unet.", "lora_unet_", "lycoris_"),
    "text_encoder": ("text_encoder.", "lora_te_", "lora_te1_"),
    "text_encoder_2": ("text_encoder_2.", "lora_te2_"),
}
"""Prefixes of layer names in the files of diffusers, and of kohya's and LyCORIS' trainers."""
TRAINERS = tuple(p for names in PREFIXES.values() for p in names if not p.endswith("."))
_LAYER = re.compile(
    r"(.+?)(\.lora(?:_linear_layer)?\.(?:down|up)\.weight|\.(?:down|up)\.weight"
    r"|\.lora_[AB]\.(?:weight|bias)|\.lora_magnitude_vector(?:\.weight)?|\.alpha)"
)
"""Matches layer and weight in names of diffusers' files."""
_PLAIN = ("lora_down.weight", "lora_up.weight", "alpha")
"""The weights of LoRA in kohya's files."""
_KINDS = {
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "diff": "full-difference",
    "oft_": "OFT",
    "a1.": "GLoRA",
    "on_input": "IA3",
    "lambda_layer": "T-LoRA",
    "lora_mid": "LoCon (with a core tensor)",
    "dora_scale": "DoRA",
    "w_norm": "norm-difference",
}
"""Kinds of files other than LoRA, from kohya's and LyCORIS' trainers, by weights' prefixes."""
_FAMILIES = {
    r"double_blocks|single_blocks|single_transformer_blocks": "FLUX",
    r"joint_blocks|attn\.add_[qkv]_proj": "Stable Diffusion 3",
    r"lora_te2_|text_encoder_2\.": "SDXL",
    r"^(?:diffusion_model\.|transformer\.|lora_unet_)(?:transformer_)?(?:blocks|layers)": (
        "a transformer"
    ),
}
_WIDTHS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}
"""Model families by the channels of the texts in cross-attention."""


@dataclass(frozen=True, kw_only=True)
class LoraFile:
    """A LoRA file. layers: weights by name, by the file's layer names. metadata: the trainer's.

    is_converted: whether names and weights are not the file's own (see `as_of_pipelines`).
    """

    path: Path
    layers: dict[str, dict[str, Tensor]]
    metadata: dict[str, str]
    is_converted: bool = False

    def state(self, layers: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return the weights of some layers, or of all, by their names in a file."""
        return {
            f"{layer}{'' if name[:1] in ('', '.') else '.'}{name}": tensor
            for layer in (self.layers if layers is None else layers)
            for name, tensor in self.layers[layer].items()
        }

    @property
    def other_kinds(self) -> str:
        """Return the contents that diffusers and peft would load wrongly, in words; '' if none."""
        names = {name for weights in self.layers.values() for name in weights}
        other_names = [name for name in names if name[:1] not in ("", ".") and name not in _PLAIN]
        kinds = [
            kind
            for prefix, kind in _KINDS.items()
            if any(name.startswith(prefix) for name in other_names)
        ]
        return " and ".join(kinds) or ", ".join(sorted(other_names))

    @property
    def family(self) -> str:
        """Return the model family that it is for, in words; '' if unknown."""
        for name in ("modelspec.architecture", "ss_base_model_version"):
            if self.metadata.get(name):
                return self.metadata[name]
        for pattern, family in _FAMILIES.items():
            if any(re.search(pattern, layer) for layer in self.layers):
                return family
        for layer, weights in self.layers.items():
            width = inputs_of(weights)
            if re.search(r"attn2.+to_[kv]", layer) and width is not None:
                return _WIDTHS.get(width, f"models whose texts have {width} channels")
        return ""


def find_lora(path_and_weight: str | Path) -> tuple[Path, float]:
    """Return the file and weight of "FILE:WEIGHT". Raise InputError if one cannot be used."""
    path, weight = expanded(path_and_weight), 1.0
    if not path.exists():
        # The text after a drive's colon, as in C:\\style.safetensors, is not a number.
        head, _, tail = str(path_and_weight).rpartition(":")
        if head and (number := _number(tail)) is not None:
            path, weight = expanded(head), number
        elif head and expanded(head).exists():
            raise InputError(f"the weight of {head} is {tail!r}; give a number, such as 0.8")
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        default_file = next((path / n for n in _FOLDERS_FILES if path / n in files), path)
        if default_file not in files and len(files) != 1:
            names = ", ".join(file.name for file in files) or "none"
            parts = [part for part in PREFIXES if (path / part / ADAPTER_FILE).is_file()]
            remedy = f"; give its folders one by one: {', '.join(parts)}" if parts else ""
            raise InputError(
                f"the folder {path} must hold one .safetensors file; it has {names}{remedy}"
            )
        path = default_file if default_file in files else files[0]
    if path.suffix != ".safetensors" or not path.is_file():
        raise InputError(f"there is no LoRA file {path}; give a .safetensors file")
    return path, weight


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def read_lora(path: Path) -> LoraFile:
    """Read the layers of a file. Raise InputError if it is not a LoRA."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a LoRA for this model: {error}") from None
    return _lora_of(path, tensors, metadata, as_of_pipelines(tensors, metadata, path))


def _lora_of(
    path: Path,
    tensors: dict[str, Tensor],
    metadata: dict[str, str],
    converted: dict[str, Tensor] | None,
) -> LoraFile:
    return LoraFile(
        path=path,
        layers=layers_of(tensors if converted is None else converted),
        metadata=metadata,
        is_converted=converted is not None,
    )


def read_loadable(lora: Any, weight_name: str | None) -> LoraFile | None:
    """Return a LoRA that diffusers is to load; None for a name on the hub.

    InputError if diffusers would load it wrongly, or not at all.
    """
    if isinstance(lora, dict):
        file = _lora_of(Path("the given LoRA"), lora, {}, as_of_pipelines(lora, {}))
    elif Path(lora).exists():
        file = read_lora(Path(lora, weight_name) if weight_name else find_lora(lora)[0])
    else:
        return None
    if file.other_kinds:
        raise InputError(
            f"{file.path} holds {file.other_kinds}, which can be merged but not loaded: give it as "
            "loras=[...] to from_pretrained"
        )
    return file


def layers_of(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Group a file's tensors by layer and by the weight's name in it."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        layer, weight = key, ""
        if match := _LAYER.fullmatch(key):
            layer, weight = match.groups()
        if key.startswith(TRAINERS):
            layer, _, weight = key.partition(".")
        layers.setdefault(layer, {})[weight] = tensor
    return layers


def inputs_of(weights: dict[str, Tensor]) -> int | None:
    """Return the number of a layer's input channels by its weights; None if they do not show it."""
    for name, tensor in weights.items():
        if name.endswith(("down.weight", "lora_A.weight", "diff")) and tensor.ndim > 1:
            return int(tensor.shape[1])
    return None
