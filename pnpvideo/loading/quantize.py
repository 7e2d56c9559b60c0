"""Quantization: a transformer's weights kept in fewer bits than the network computes in.

fp8 is diffusers' own. int8 is done by torchao and nf4 by bitsandbytes, two of the libraries that
diffusers loads quantized models by. They replace the weights of a model that is loaded already, so
that LoRA files were merged before, and so that no GPU is needed.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import nn

from pnpvideo.errors import InputError, needs
from pnpvideo.options.values import Quantization

_LIBRARIES = {"int8": "torchao", "nf4": "bitsandbytes"}
_BLOCK = 64
"""The weights that share a scale in nf4. Layers of other sizes are left as they are."""


def check_quantization(how: Quantization, dtype: torch.dtype) -> None:
    """Raise InputError if a library is missing, or the network computes in what does not fit."""
    if how in _LIBRARIES:
        with needs("quantize", f"quantize {how}"):
            import_module(_LIBRARIES[how])
    if how == "int8" and dtype == torch.float16:
        raise InputError(
            "quantize int8 multiplies whole numbers before it scales them, which overflows in "
            "float16; give --dtype bfloat16, or --quantize nf4 or fp8"
        )


def check_layer_offload(how: Quantization | None) -> None:
    """Raise InputError for weights that cannot be moved layer by layer."""
    if how == "nf4":
        # diffusers moves the weights without their scales.
        raise InputError(
            "offload_layers cannot move weights of 4 bits; give offload in its place, or quantize "
            "int8 or fp8"
        )


def quantize_weights(transformer: Any, how: Quantization, dtype: torch.dtype) -> None:
    """Keep a transformer's weights in fewer bits, in place. dtype: what it computes in.

    What the model wants in float32, and layers that are too small, stay as they are. InputError if
    its weights are quantized already.
    """
    if getattr(transformer, "is_quantized", False):
        raise InputError("the weights of this model are quantized already; leave quantize out")
    if how == "fp8":
        # Each layer's weights are converted when it works.
        transformer.enable_layerwise_casting(torch.float8_e4m3fn, dtype)
    elif how == "int8":
        _to_int8(transformer, _layers(transformer))
    else:
        _to_nf4(transformer, _layers(transformer), dtype)


def _layers(transformer: Any) -> Sequence[str]:
    """Return the names of the layers whose weights are quantized."""
    kept = set(transformer._keep_in_fp32_modules or ())
    return [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear)
        and kept.isdisjoint(name.split("."))
        and not any(size % _BLOCK for size in module.weight.shape)
    ]


def _to_int8(transformer: nn.Module, layers: Sequence[str]) -> None:
    """Round each row of weights to whole numbers, with a scale."""
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    # Else it changes settings of torch.compile for the whole process.
    config = Int8WeightOnlyConfig(set_inductor_config=False)
    chosen = set(layers)
    quantize_(transformer, config, filter_fn=lambda _, name: name in chosen)


def _to_nf4(transformer: Any, layers: Sequence[str], dtype: torch.dtype) -> None:
    """Round weights to the 16 values of NF4, with a scale for each block (Dettmers et al. 2023)."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name in layers:
        old = transformer.get_submodule(name)
        size = old.in_features, old.out_features
        new = Linear4bit(*size, bias=False, compute_dtype=dtype, quant_type="nf4", device="meta")
        weight = Params4bit(old.weight.detach(), quant_type="nf4", module=new)
        new.weight, new.bias = weight.to(old.weight.device), old.bias  # Moving it quantizes it.
        # On some CPUs the first pass would put the weights into another order and round their
        # scales: a job could not tell that they are the same.
        new.support_avx512bf16_for_cpu = False
        parent, _, own = name.rpartition(".")
        setattr(transformer.get_submodule(parent), own, new.train(old.training))
