"""Merging of LoRA files into a flow-matching transformer, by diffusers' own loader for it."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.loading.hub import LOADING_ERRORS, one_line
from pnpvideo.loading.lora import LoraFile, find_lora, read_lora
from pnpvideo.models.flow.family import Family, module_of

_log = logging.getLogger(__name__)


def merge_flow_lora(pipe: Any, family: Family, path_and_weight: str | Path) -> None:
    """Merge a file, or a folder's file, into a pipeline's weights.

    path_and_weight: the path, optionally with a weight: "style.safetensors:0.8". Log layers that
    the model does not have. Of two transformers, a file whose name says high or low noise is for
    one, and any other file for both. Raise InputError if the file is for another model.
    """
    path, weight = find_lora(path_and_weight)
    file = read_lora(path)
    if file.other_kinds:
        raise _misfit(file, family, f"it holds {file.other_kinds}, and only LoRA can be merged")
    where = {"weight_name": path.name, "local_files_only": True}
    try:
        state = pipe.lora_state_dict(str(path.parent), **where)
        _check_fit(pipe, family, file, state)
        if len(family.transformers) == 1:
            pipe.load_lora_weights(str(path.parent), **where)
            pipe.fuse_lora(lora_scale=weight)
            return
        for name in _transformers_for(path, pipe, family):
            is_second = {"load_into_transformer_2": name == "transformer_2"}
            pipe.load_lora_weights(str(path.parent), **where, **is_second)
            pipe.fuse_lora(components=[name], lora_scale=weight)
            pipe.unload_lora_weights()
    except InputError:
        raise
    except LOADING_ERRORS as error:
        raise _misfit(file, family, one_line(error)) from None
    finally:
        pipe.unload_lora_weights()


def _transformers_for(path: Path, pipe: Any, family: Family) -> Sequence[str]:
    """Return the names of a pipeline's transformers that a file is for."""
    names = [name for name in family.transformers if getattr(pipe, name, None) is not None]
    match = re.search(r"(?<![a-z])(high|low)(?![a-z])|(high|low)[-_ ]?noise", path.stem.lower())
    if len(names) == 1 or match is None:
        return names
    chosen = names[(match[1] or match[2]) == "low"]
    _log.info("%s is merged into the %s alone, as its name says", path, chosen)
    return [chosen]


def _check_fit(pipe: Any, family: Family, file: LoraFile, state: dict[str, Tensor]) -> None:
    """Raise InputError unless the model has layers of the file, of their sizes."""
    unmatched, matched = [], 0
    for key, tensor in state.items():
        name, found, _ = key.partition(".lora_A.")
        if not found:
            continue
        part, _, layer = name.partition(".")
        is_transformer = part == family.transformers[0]
        owner = family.experts(pipe).present[0] if is_transformer else getattr(pipe, part, None)
        module = module_of(owner, layer)
        if module is None:
            unmatched.append(name)
            continue
        matched += 1
        wanted = getattr(module, "in_features", tensor.shape[1])
        if tensor.shape[1] != wanted:
            reason = f"{name} has {tensor.shape[1]} inputs and the model {wanted}"
            raise _misfit(file, family, reason)
    if not matched:
        raise _misfit(file, family, "it names none of the model's layers")
    if unmatched:
        shown = ", ".join(unmatched[:3]) + ", ..." * (len(unmatched) > 3)
        _log.warning(
            "%d of %d layers of %s are not in the model: %s",
            len(unmatched), len(unmatched) + matched, file.path, shown,
        )  # fmt: skip


def _misfit(file: LoraFile, family: Family, reason: str) -> InputError:
    made_for = f"it is for {file.family}; " if file.family else ""
    return InputError(
        f"{file.path} is not a LoRA for this model, {family.name}: {made_for}{reason}"
    )
