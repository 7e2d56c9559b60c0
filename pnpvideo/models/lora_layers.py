"""The layers of networks with LoRA weights that are loaded and not fused."""

from collections.abc import Iterable
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer


def lora_layers(networks: Iterable[Any]) -> list[Any]:
    """Return these layers of some networks; None is skipped."""
    modules = (module for part in networks if part is not None for module in part.modules())
    return [module for module in modules if isinstance(module, BaseTunerLayer)]
