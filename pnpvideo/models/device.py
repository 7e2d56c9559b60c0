"""The device that a model works on (with offloading, it is stored on another), and precisions.

Latents over the steps, and tokens that are compared, must not be rounded.
"""

from typing import Any

import torch
from accelerate.hooks import CpuOffload


def working_device(model: Any) -> torch.device:
    """Return the device that a model's inputs must be on.

    Offloaded (`DiffusionPipeline.enable_model_cpu_offload`), a model lies in the computer's memory
    until it is called.
    """
    hook = getattr(model, "_hf_hook", None)
    device: torch.device = getattr(hook, "execution_device", None) or model.device
    return device


def set_aside(model: Any) -> None:
    """Move a model to the computer's memory if it is offloaded as a whole.

    Otherwise it stays on the device until the model that diffusers lets follow it is called.
    """
    hook = getattr(model, "_hf_hook", None)
    if isinstance(hook, CpuOffload):
        hook.init_hook(model)


def exact_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return float32 whatever precision a network runs in, or float64 if it runs in float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def default_device() -> torch.device:
    """Return the first available device of cuda, mps and cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 on a GPU that computes in it, float16 on an older one, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    return torch.float32
