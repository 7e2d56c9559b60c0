"""A model by name to its diffusers components: embedded, a folder, a hub id or one checkpoint."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError, safe_open

from pnpvideo.errors import InputError, RunError

EMBEDDED = Path(__file__).parent / "embedded"
COMPONENTS = (
    "vae",
    "text_encoder",
    "tokenizer",
    "unet",
    "scheduler",
    "text_encoder_2",
    "tokenizer_2",
)
_SDXL_KEY = "conditioner.embedders.1.model.ln_final.weight"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """components: what the pipeline is made of, by the names that diffusers gives.

    options: the model's own values for fields of `PnPOptions`; layers: its `InjectionLayers`
    fields. Both come from `pnp.json` in the model's folder and are empty without one.
    """

    components: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    layers: dict[str, Any] = field(default_factory=dict)


def default_device() -> torch.device:
    """cuda, mps or cpu, the first that is there."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU that computes in it, float16 on an older one, float32 elsewhere."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    return torch.float32


def load_model(
    model: str | Path = "embedded",
    *,
    dtype: torch.dtype = torch.float32,
    loras: Sequence[str | Path] = (),
    **options: Any,
) -> LoadedModel:
    """Load a Stable Diffusion 1.x, 2.x or XL model, from safetensors only.

    model: "embedded", a diffusers folder, a hub id, or a `.safetensors` checkpoint.
    loras: LoRA `.safetensors` files, merged into the weights. options: passed on to diffusers.
    Raises InputError where there is no such model, RunError where the hub cannot be reached.
    """
    path = EMBEDDED if str(model) == "embedded" else Path(model).expanduser()
    if path.is_file():
        stock = _load_checkpoint(path, dtype, options)
    elif path.is_dir():
        if not (path / "model_index.json").is_file():
            raise InputError(f"{path} is no diffusers model: it has no model_index.json")
        stock = _load_diffusers(str(path), dtype, options)
    elif _HUB_ID.fullmatch(str(model)) and not path.suffix == ".safetensors":
        stock = _load_diffusers(str(model), dtype, options)
    else:
        raise InputError(
            f"there is no model {str(model)!r}; give 'embedded', a diffusers folder, "
            "a hub id such as owner/name, or a .safetensors file"
        )
    for lora in loras:
        _merge_lora(stock, Path(lora).expanduser())
    components = {name: getattr(stock, name, None) for name in COMPONENTS}
    zeros = stock.config.get("force_zeros_for_empty_prompt", False)
    components["force_zeros_for_empty_prompt"] = zeros
    vae = components["vae"]
    if components["text_encoder_2"] is not None and dtype == torch.float16:
        # SDXL's autoencoder overflows in float16 and says so in its configuration.
        vae.to(torch.float32 if vae.config.get("force_upcast") else dtype)
    settings = path / "pnp.json"
    own = json.loads(settings.read_text()) if settings.is_file() else {}
    return LoadedModel(
        components=components, options=own.get("options", {}), layers=own.get("layers", {})
    )


def _load_diffusers(name: str, dtype: torch.dtype, options: dict[str, Any]) -> Any:
    try:
        config = DiffusionPipeline.load_config(name, **options)
        large = "text_encoder_2" in config
        stock = StableDiffusionXLPipeline if large else StableDiffusionPipeline
        extra = {} if large else {"safety_checker": None, "requires_safety_checker": False}
        return stock.from_pretrained(
            name, torch_dtype=dtype, use_safetensors=True, **extra, **options
        )
    except RepositoryNotFoundError:
        raise InputError(f"the hub has no public model {name!r}; check its name") from None
    except GatedRepoError:
        raise InputError(
            f"the hub wants you to accept the terms of {name!r}; do so there and log in"
        ) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise _unreachable(name) from None
    except (EntryNotFoundError, SafetensorError, OSError, ValueError) as error:
        if not Path(name).is_dir() and _is_network_error(error):
            raise _unreachable(name) from None
        raise InputError(f"the model {name} cannot be loaded: {_first_line(error)}") from None


def _load_checkpoint(path: Path, dtype: torch.dtype, options: dict[str, Any]) -> Any:
    if path.suffix != ".safetensors":
        raise InputError(f"{path} is not a .safetensors file; other checkpoints can hold code")
    try:
        with safe_open(path, framework="pt") as file:
            large = _SDXL_KEY in file.keys()  # noqa: SIM118 - it is no dictionary
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file: {_first_line(error)}") from None
    stock = StableDiffusionXLPipeline if large else StableDiffusionPipeline
    extra = {} if large else {"safety_checker": None, "requires_safety_checker": False}
    try:
        return stock.from_single_file(str(path), torch_dtype=dtype, **extra, **options)
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise _unreachable(f"the configuration of {path.name}") from None
    except (OSError, ValueError, KeyError) as error:
        if _is_network_error(error):
            raise _unreachable(f"the configuration of {path.name}") from None
        raise InputError(f"{path} cannot be loaded: {_first_line(error)}") from None


def _merge_lora(stock: Any, path: Path) -> None:
    if path.suffix != ".safetensors" or not path.is_file():
        raise InputError(f"there is no LoRA file {path}; give a .safetensors file")
    try:
        stock.load_lora_weights(str(path.parent), weight_name=path.name)
        stock.fuse_lora()
        stock.unload_lora_weights()
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{path} is no LoRA for this model: {_first_line(error)}") from None


def _unreachable(what: str) -> RunError:
    return RunError(
        f"the hub cannot be reached for {what}; connect to the network, or name a folder"
    )


def _is_network_error(error: BaseException) -> bool:
    text = str(error).lower()
    return any(word in text for word in ("connect", "offline", "resolve", "internet", "timed out"))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
