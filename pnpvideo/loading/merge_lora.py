"""Merging of LoRA files and similar ones into a model's weights."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_conversion_utils import _maybe_map_sgm_blocks_to_diffusers
from torch import Tensor

from pnpvideo.errors import InputError, needs
from pnpvideo.loading.lora import PREFIXES, TRAINERS, LoraFile, find_lora, inputs_of, read_lora

_log = logging.getLogger(__name__)
_OLD_NAMES = {
    r"\.processor\.to_(\w+)_lora$": r".to_\1",
    r"\.self_attn\.to_(\w+)_lora$": r".self_attn.\1_proj",
    r"\.to_out$": r".to_out.0",
}
"""Names of attention layers in older diffusers' files, and their current names."""
_BLOCKS = {"input_blocks": "down_blocks", "middle_block": "mid_block", "output_blocks": "up_blocks"}
_INNER_NAMES = {
    "in_layers_0": "norm1",
    "in_layers_2": "conv1",
    "emb_layers_1": "time_emb_proj",
    "out_layers_0": "norm2",
    "out_layers_3": "conv2",
    "skip_connection": "conv_shortcut",
    "0_op": "0_conv",
    "down_blocks_0_0": "conv_in",
    "unet_out_2": "unet_conv_out",
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
}
"""Names of blocks and layers in the original UNet, which SDXL's files use, and diffusers' names."""


def merge_lora(pipeline: Any, path_and_weight: str | Path) -> None:
    """Merge a file, or a folder's file, into a diffusers pipeline's weights.

    path_and_weight: the path, optionally with a weight: "style.safetensors:0.8". Log layers that
    the model does not have. Raise InputError if the file cannot be merged.
    """
    path, weight = find_lora(path_and_weight)
    file = read_lora(path)
    try:
        modules = _match_modules(pipeline, file)
        _check_fit(pipeline, file, modules)
        if file.other_kinds or not _merge_with_peft(pipeline, file, modules, weight):
            _merge_with_lycoris(file, modules, weight)
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise _misfit(file, " ".join(str(error).split()).split(". ")[0][:300]) from None
    unmatched = [layer for layer in file.layers if layer not in modules]
    if unmatched:
        shown = ", ".join(unmatched[:3]) + ", ..." * (len(unmatched) > 3)
        _log.warning(
            "%d of %d layers of %s are not in the model: %s",
            len(unmatched), len(file.layers), path, shown,
        )  # fmt: skip


def _match_modules(pipeline: Any, file: LoraFile) -> dict[str, Any]:
    """Return the model's modules by the file's layer names, for layers that it has."""
    modules = dict(_named_layers(pipeline))
    blocks = {layer: layer for layer in file.layers if layer.startswith("lora_unet_")}
    numbered = _maybe_map_sgm_blocks_to_diffusers(dict(blocks), pipeline.unet.config)
    renamed = {layer: name for name, layer in numbered.items()}
    matched = {}
    for layer in file.layers:
        name = renamed.get(layer, layer)
        for old, new in (_OLD_NAMES | _BLOCKS).items():
            name = re.sub(old, new, name)
        for file_name, model_name in _INNER_NAMES.items():
            if name not in modules:
                name = re.sub(rf"{file_name}$", model_name, name)
        if name in modules:
            matched[layer] = modules[name]
    return matched


def _named_layers(pipeline: Any) -> Iterator[tuple[str, Any]]:
    for part, prefixes in PREFIXES.items():
        module = getattr(pipeline, part, None)
        for name, layer in module.named_modules() if module is not None else ():
            # transformers 5 no longer has this level, but files still name it.
            for inner in (name, f"text_model.{name}") if part != "unet" else (name,):
                for prefix in prefixes:
                    joined = inner if prefix.endswith(".") else inner.replace(".", "_")
                    yield prefix + joined, layer


def _check_fit(pipeline: Any, file: LoraFile, modules: dict[str, Any]) -> None:
    """Raise InputError if a file is for another model."""
    if not modules:
        raise _misfit(file, "it names none of the model's layers")
    second = PREFIXES["text_encoder_2"]
    if getattr(pipeline, "text_encoder_2", None) is None and any(
        layer.startswith(second) for layer in file.layers
    ):
        raise _misfit(file, "it has layers for a second text encoder")
    for layer, module in modules.items():
        inputs, expected = inputs_of(file.layers[layer]), [*module.weight.shape, 0][1]
        if inputs not in (None, expected):
            raise _misfit(file, f"{layer} has {inputs} inputs and the model {expected}")


def _misfit(file: LoraFile, reason: str) -> InputError:
    family = f"it is for {file.family}; " if file.family else ""
    return InputError(f"{file.path} is not a LoRA for this model: {family}{reason}")


def _merge_with_peft(pipeline: Any, file: LoraFile, modules: dict[str, Any], weight: float) -> bool:
    """Merge a file with diffusers and return True; return False if diffusers cannot read it."""
    if file.is_converted or any(layer.startswith(TRAINERS) for layer in file.layers):
        try:
            # Leave out unmatched layers, whose names diffusers cannot convert.
            pipeline.load_lora_weights(file.state(modules))
        except ValueError:
            # For instance, a text encoder's file with only some of the layers.
            pipeline.unload_lora_weights()
            return False
    else:
        path = file.path
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, local_files_only=True)
    pipeline.fuse_lora(lora_scale=weight)
    pipeline.unload_lora_weights()
    return True


def _merge_with_lycoris(file: LoraFile, modules: dict[str, Any], weight: float) -> None:
    # Imported late, as it is slow.
    with needs("lycoris", f"{file.path} holds {file.other_kinds}, which"):
        from lycoris.modules import get_module, make_module
    for layer, module in modules.items():
        weights = {name: tensor.float() for name, tensor in file.layers[layer].items()}
        named = {f"{layer}.{name}": tensor for name, tensor in _with_alpha(weights).items()}
        dtype = module.weight.dtype
        module.float()
        kind, tensors = get_module(named, layer)
        change = None if kind is None else make_module(kind, tensors, layer, module)
        if change is None:
            raise InputError(
                f"{file.path} cannot be merged: {layer} has {', '.join(file.layers[layer])}, "
                "which is not a known kind"
            )
        original = {name: p.detach().clone() for name, p in module.named_parameters()}
        with torch.no_grad():
            change.merge_to()
            for name, parameter in module.named_parameters():
                # LyCORIS' weight would leave a part of DoRA even if it is 0.
                parameter.lerp_(original.get(name, torch.zeros_like(parameter)), 1 - weight)
        module.to(dtype)


def _with_alpha(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a layer's weights with an alpha; LyCORIS takes 0 for none.

    LyCORIS 4.1 trains LoHa and LoKr with alpha / rank, but merges them with its square. So it is
    multiplied into one of their factors.
    """
    alpha = weights.get("alpha", torch.tensor(0.0))
    factors = [name for name in ("hada_w1_b", "lokr_w2_b", "lokr_w1_b") if name in weights]
    if not factors:
        return {"alpha": alpha, **weights}
    factor = weights[factors[0]]
    scale = alpha / len(factor) if alpha else 1.0
    return weights | {"alpha": torch.tensor(0.0), factors[0]: scale * factor}
