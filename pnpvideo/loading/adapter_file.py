"""LoRA files as PEFT and diffusers' networks write them, read as files of diffusers' pipelines.

They have other names for the layers, and a factor (alpha) that stands beside the weights.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pnpvideo.errors import InputError

ADAPTER_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_CONFIG_KEY = "lora_adapter_metadata"
"""The key of the header under which diffusers keeps PEFT's configuration."""
_ALPHA_KEYS = ("lora_alpha", "network_alpha", "alpha")
"""Keys of the header that hold a number for all layers."""
_PEFT_ALPHA = 8.0
"""PEFT's alpha where a configuration has none."""

_WRAPPER = "base_model.model."
_NAMED = re.compile(
    r"(.+\.(?:lora_[AB]|lora_magnitude_vector|lora_down|lora_up|lora\.down|lora\.up))"
    r"\.(?!weight$|bias$)([^.]+)((?:\.(?:weight|bias))?)"
)
"""Matches what is before the name of an adapter, that name, and what is after it."""
_UP = re.compile(r"(.+)\.(?:lora_B|lora_up|lora\.up|lora_linear_layer\.up|up)\.(?:weight|bias)")
_PARTS = {
    "unet": ("down_blocks.", "mid_block.", "up_blocks.", "conv_", "time_emb", "add_emb"),
    "text_encoder": ("text_model.", "encoder.layers.", "text_projection"),
}
"""By part of a model: the beginnings of its layers' names."""


@dataclass(frozen=True, kw_only=True)
class _Factors:
    """The factors of a file's layers, by PEFT's configuration. by_layer: alphas by pattern."""

    alpha: float
    by_layer: Mapping[str, float]
    by_root: bool

    def of(self, layer: str, rank: int) -> float:
        """Return the factor of a layer's weights."""
        matching = (k for k in self.by_layer if re.fullmatch(rf"(.*\.)?({k})", layer))
        pattern = next(matching, None)
        alpha = self.alpha if pattern is None else self.by_layer[pattern]
        return alpha / (math.sqrt(rank) if self.by_root else rank)


def as_of_pipelines(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path | None = None
) -> dict[str, Tensor] | None:
    """Return a file's tensors with the names of diffusers' pipelines and factors multiplied in.

    path: of the file. None if it is not one of these kinds, and can be read as it is. InputError if
    it holds several adapters, or a configuration that cannot be used.
    """
    names = {name: _plain_name(name, path) for name in tensors}
    if len(set(names.values())) < len(names):
        adapters = sorted({match[2] for name in names if (match := _NAMED.fullmatch(name))})
        raise InputError(
            f"{_place(path)} holds several adapters ({', '.join(adapters)}); save one of them alone"
        )
    renamed = any(old != new for old, new in names.items())
    alpha = next((metadata[key] for key in _ALPHA_KEYS if key in metadata), None)
    config = _read_config(path, metadata, wrapped=any(n.startswith(_WRAPPER) for n in tensors))
    if not renamed and (alpha is None or config is not None):
        return None
    result = {names[name]: tensor for name, tensor in tensors.items()}
    for name, tensor in result.items():
        match = _UP.fullmatch(name)
        if match is None or f"{match[1]}.alpha" in result:
            continue
        factors = _factors_of(match[1], config, alpha, path)
        if factors is not None:
            rank = _rank_of(match[1], result)
            result[name] = tensor * factors.of(match[1], rank)
    return result


def _plain_name(name: str, path: Path | None) -> str:
    """Return a tensor's name in files of pipelines."""
    plain = name.removeprefix(_WRAPPER)
    if match := _NAMED.fullmatch(plain):
        plain = match[1] + match[3]
    for part, beginnings in _PARTS.items():
        if plain.startswith(beginnings):
            second = part == "text_encoder" and path and path.parent.name == "text_encoder_2"
            return f"{part}{'_2' if second else ''}.{plain}"
    return plain


def _rank_of(layer: str, tensors: Mapping[str, Tensor]) -> int:
    for name in ("lora_A", "lora_down", "lora.down", "lora_linear_layer.down", "down"):
        if (down := tensors.get(f"{layer}.{name}.weight")) is not None:
            return len(down)
    raise InputError(f"the LoRA has only one of the two weights of {layer}")


def _read_config(
    path: Path | None, metadata: Mapping[str, str], *, wrapped: bool
) -> dict[str, object] | None:
    """Return PEFT's configuration in the header, or beside a file; None if there is none.

    It is read for the factors only: it may not name other files to load. wrapped: whether PEFT
    wrote the file, and so the configuration beside it.
    """
    text = metadata.get(_CONFIG_KEY)
    if text is None and wrapped and path is not None:
        beside = path.parent / CONFIG_FILE
        try:
            text = beside.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InputError(
                f"there is no {CONFIG_FILE} beside {path}; it says how strong the LoRA is: give "
                "the folder as PEFT wrote it"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{beside} cannot be read: {error}") from None
    if text is None:
        return None
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise InputError(f"the configuration of {_place(path)} is not a JSON object")
    kind = config.get("peft_type")
    if kind not in (None, "LORA"):
        raise InputError(f"{_place(path)} is PEFT's {kind}, which is not a LoRA")
    return config


def _factors_of(
    layer: str, config: Mapping[str, object] | None, alpha: str | None, path: Path | None
) -> _Factors | None:
    """Return the factors of a layer's part of a model; None if the file gives none."""
    try:
        if config is not None:
            prefix = layer.partition(".")[0] + "."
            own = {k.removeprefix(prefix): v for k, v in config.items() if k.startswith(prefix)}
            values = own or config
            patterns = dict(values.get("alpha_pattern") or {})  # type: ignore[call-overload]
            return _Factors(
                alpha=_number(values.get("lora_alpha", _PEFT_ALPHA)),
                by_layer={_pattern(str(k)): _number(v) for k, v in patterns.items()},
                by_root=bool(values.get("use_rslora")),
            )
        if alpha is not None:
            return _Factors(alpha=_number(alpha), by_layer={}, by_root=False)
    except re.error:
        raise InputError(f"the alpha_pattern of {_place(path)} cannot be read") from None
    except (TypeError, ValueError):
        raise InputError(f"the alpha of {_place(path)} is not a number") from None
    return None


def _pattern(text: str) -> str:
    """Return a pattern of layers' names. re.error if it is none, or could take for ever."""
    re.compile(text)
    if re.search(r"\)[*+{]", text):
        raise re.error("a group is repeated", text)
    return text


def _number(value: object) -> float:
    """Return a number. ValueError or TypeError if it is not a finite one."""
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _place(path: Path | None) -> str:
    return "the given LoRA" if path is None else str(path)
