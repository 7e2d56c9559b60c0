"""Loading of transformers' networks: safetensors only, and nothing else that the files name.

transformers follows an adapter_config.json in a folder to other weights, and asks on the terminal
before it runs a folder's own code.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from transformers.utils.peft_utils import find_adapter_config_file

from pnpvideo.errors import InputError
from pnpvideo.loading.adapter_file import CONFIG_FILE
from pnpvideo.loading.hub import HUB_OPTIONS

T = TypeVar("T")


def load_pretrained(load: Callable[..., T], name: str | Path, **options: Any) -> T:
    """Load a network from a folder or the hub.

    load: a `from_pretrained` of transformers. options: its options. InputError if the network has
    an adapter; other errors are transformers' own.
    """
    where = {k: v for k, v in options.items() if k in (*HUB_OPTIONS, "revision", "subfolder")}
    if find_adapter_config_file(str(name), **where) is not None:
        folder = options.get("subfolder")
        raise _has_adapter(name, f"{folder}/{CONFIG_FILE}" if folder else CONFIG_FILE)
    return load(str(name), use_safetensors=True, trust_remote_code=False, **options)


def check_no_adapter(name: str | Path, files: Iterable[str], parts: Iterable[str]) -> None:
    """Raise InputError if a part of a model has an adapter. files: all paths within the model."""
    adapters = {f"{part}/{CONFIG_FILE}" for part in parts}
    for file in files:
        if file in adapters:
            raise _has_adapter(name, file)


def _has_adapter(name: str | Path, file: str) -> InputError:
    return InputError(
        f"{name} holds {file}, which names other weights to load; remove it (--lora takes a LoRA "
        "of a model)"
    )
