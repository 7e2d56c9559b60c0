"""LoRA files and the like, merged into a model's weights."""

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
"""Layers of attention in older diffusers' files, and as they are called."""
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
"""Blocks and layers of the original code's UNet, which SDXL's files name, and diffusers' names."""


def merge_lora(stock: Any, given: str | Path) -> None:
    """Merge a file, or a folder's, into a diffusers pipeline's weights. Layers that fit nothing
    are told.

    given: the path, perhaps with a weight: "style.safetensors:0.8". InputError where it cannot be.
    """
    path, weight = find_lora(given)
    file = read_lora(path)
    try:
        places = _places(stock, file)
        _check_fit(stock, file, places)
        if file.other_kinds or not _merge_with_peft(stock, file, places, weight):
            _merge_with_lycoris(file, places, weight)
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise _misfit(file, " ".join(str(error).split()).split(". ")[0][:300]) from None
    strange = [layer for layer in file.layers if layer not in places]
    if strange:
        shown = ", ".join(strange[:3]) + ", ..." * (len(strange) > 3)
        _log.warning(
            "%d of %d layers of %s fit nothing in the model: %s",
            len(strange), len(file.layers), path, shown,
        )  # fmt: skip


def _places(stock: Any, file: LoraFile) -> dict[str, Any]:
    """By the file's name of a layer: the model's module, where it has one."""
    modules = dict(_named_layers(stock))
    blocks = {layer: layer for layer in file.layers if layer.startswith("lora_unet_")}
    numbered = _maybe_map_sgm_blocks_to_diffusers(dict(blocks), stock.unet.config)
    renamed = {layer: name for name, layer in numbered.items()}
    found = {}
    for layer in file.layers:
        name = renamed.get(layer, layer)
        for old, new in (_OLD_NAMES | _BLOCKS).items():
            name = re.sub(old, new, name)
        for theirs, ours in _INNER_NAMES.items():
            if name not in modules:
                name = re.sub(rf"{theirs}$", ours, name)
        if name in modules:
            found[layer] = modules[name]
    return found


def _named_layers(stock: Any) -> Iterator[tuple[str, Any]]:
    for part, prefixes in PREFIXES.items():
        module = getattr(stock, part, None)
        for name, layer in module.named_modules() if module is not None else ():
            # transformers 5 has this level no longer, and files go on to name it.
            for inner in (name, f"text_model.{name}") if part != "unet" else (name,):
                for prefix in prefixes:
                    joined = inner if prefix.endswith(".") else inner.replace(".", "_")
                    yield prefix + joined, layer


def _check_fit(stock: Any, file: LoraFile, places: dict[str, Any]) -> None:
    """InputError where a file is for another model."""
    if not places:
        raise _misfit(file, "it names none of the model's layers")
    second = PREFIXES["text_encoder_2"]
    if getattr(stock, "text_encoder_2", None) is None and any(
        layer.startswith(second) for layer in file.layers
    ):
        raise _misfit(file, "it has layers for a second text encoder")
    for layer, module in places.items():
        inputs, wanted = inputs_of(file.layers[layer]), [*module.weight.shape, 0][1]
        if inputs not in (None, wanted):
            raise _misfit(file, f"{layer} has {inputs} inputs where the model has {wanted}")


def _misfit(file: LoraFile, why: str) -> InputError:
    family = f"it is for {file.family}; " if file.family else ""
    return InputError(f"{file.path} is no LoRA for this model: {family}{why}")


def _merge_with_peft(stock: Any, file: LoraFile, places: dict[str, Any], weight: float) -> bool:
    """Whether diffusers can read the file, and it is merged."""
    if any(layer.startswith(TRAINERS) for layer in file.layers):
        # Without the layers that fit nothing, whose names diffusers cannot convert.
        state = {f"{layer}.{n}": t for layer in places for n, t in file.layers[layer].items()}
        try:
            stock.load_lora_weights(state)
        except ValueError:
            # Such as some layers of a text encoder's and not others.
            stock.unload_lora_weights()
            return False
    else:
        path = file.path
        stock.load_lora_weights(str(path.parent), weight_name=path.name, local_files_only=True)
    stock.fuse_lora(lora_scale=weight)
    stock.unload_lora_weights()
    return True


def _merge_with_lycoris(file: LoraFile, places: dict[str, Any], weight: float) -> None:
    with needs("lycoris", f"{file.path} holds {file.other_kinds}, which"):  # It is slow, too.
        from lycoris.modules import get_module, make_module
    for layer, module in places.items():
        own = {name: tensor.float() for name, tensor in file.layers[layer].items()}
        named = {f"{layer}.{name}": tensor for name, tensor in _with_alpha(own).items()}
        dtype = module.weight.dtype
        module.float()
        kind, tensors = get_module(named, layer)
        change = None if kind is None else make_module(kind, tensors, layer, module)
        if change is None:
            raise InputError(
                f"{file.path} cannot be merged: {layer} has {', '.join(file.layers[layer])}, "
                "which is no known kind"
            )
        before = {name: p.detach().clone() for name, p in module.named_parameters()}
        with torch.no_grad():
            change.merge_to()
            for name, now in module.named_parameters():
                # LyCORIS' own weight leaves a part of DoRA even where it is 0.
                now.lerp_(before.get(name, torch.zeros_like(now)), 1 - weight)
        module.to(dtype)


def _with_alpha(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A layer's weights with an alpha; 0 is what LyCORIS takes for none.

    LyCORIS 4.1 trains LoHa and LoKr with alpha / rank, and merges them with its square. So it goes
    into one of their factors.
    """
    alpha = weights.get("alpha", torch.tensor(0.0))
    factors = [n for n in ("hada_w1_b", "lokr_w2_b", "lokr_w1_b") if n in weights]
    if not factors:
        return {"alpha": alpha, **weights}
    factor = weights[factors[0]]
    scale = alpha / len(factor) if alpha else 1.0
    return weights | {"alpha": torch.tensor(0.0), factors[0]: scale * factor}
