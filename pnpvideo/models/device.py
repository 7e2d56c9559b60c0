"""The device that a model works on, which with offloading is not where it lies, and precisions.

Latents over the steps, and tokens that are compared, must not be rounded.
"""

from typing import Any

import torch


def working_device(model: Any) -> torch.device:
    """Return the device that a model's inputs must be on.

    Offloaded (`DiffusionPipeline.enable_model_cpu_offload`), a model lies in the computer's memory
    until it is called.
    """
    hook = getattr(model, "_hf_hook", None)
    device: torch.device = getattr(hook, "execution_device", None) or model.device
    return device


def exact_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 whatever a network runs in, but float64 where that is more."""
    return torch.float64 if dtype == torch.float64 else torch.float32


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
