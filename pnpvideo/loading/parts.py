"""Loading of single parts of a model, and what their errors say in one line."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from pnpvideo.catalogue.find_model import download_elsewhere, is_offline, not_in_cache
from pnpvideo.catalogue.short_names import replacement_of
from pnpvideo.errors import InputError, RunError
from pnpvideo.loading.hub import LOADING_ERRORS, find_variant, one_line, unreachable
from pnpvideo.loading.pretrained import load_pretrained


@contextmanager
def loading_errors(name: str, *, local_files_only: bool) -> Iterator[None]:
    """Turn what diffusers raises for a model's files within into one line."""
    try:
        yield
    except InputError:
        raise
    except LOADING_ERRORS as error:
        if local_files_only:
            if is_offline():
                raise RunError(not_in_cache(name)) from None
            raise unreachable(f"the model {name}", download_elsewhere(name)) from None
        reason = one_line(error)
        # diffusers wraps the hub's errors in its own.
        if isinstance(error.__context__, GatedRepoError):
            reason = "the hub wants you to accept its terms; do so there and log in"
        elif isinstance(error.__context__, RepositoryNotFoundError):
            instead = replacement_of(name)
            reason = "the hub has no public model of this name; " + (
                f"give --model {instead}, which replaces it" if instead else "check the name"
            )
        raise InputError(f"the model {name} cannot be loaded: {reason}") from None


def load_text_encoder(
    name: str, part: str, class_name: str, files: Sequence[str], options: dict[str, Any]
) -> Any:
    """Load a text encoder. Raise InputError if weights are missing, which transformers ignores."""
    encoder, info = load_pretrained(
        getattr(transformers, class_name).from_pretrained,
        name,
        subfolder=part,
        variant=find_variant(path for path in files if path.startswith(f"{part}/")),
        output_loading_info=True,
        **options,
    )
    _check_weights(name, part, sorted(info["missing_keys"]))
    return encoder


def check_no_missing_weights(model: str | Path, pipeline: Any) -> None:
    """Raise InputError if a part lacks weights, which diffusers ignores."""
    for part, module in pipeline.components.items():
        weights = module.named_parameters() if isinstance(module, torch.nn.Module) else ()
        _check_weights(model, part, [name for name, weight in weights if weight.is_meta])


def _check_weights(model: str | Path, part: str, missing: Sequence[str]) -> None:
    if missing:
        raise InputError(
            f"the model {model} cannot be loaded: its {part} lacks {len(missing)} weights, "
            f"such as {missing[0]}"
        )


def check_tokenizers(model: str | Path, pipeline: Any, names: Sequence[str], least: int) -> None:
    """Raise InputError for a tokenizer without words: transformers makes one if files are missing.

    least: how many words a real one has at least.
    """
    for name in names:
        tokenizer = getattr(pipeline, name, None)
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # A processor has one.
        if tokenizer is not None and len(tokenizer) < least:
            raise InputError(f"the model {model} cannot be loaded: its {name} has no vocabulary")


def check_folder(folder: Path) -> None:
    """Raise InputError unless a folder holds a model of diffusers."""
    if (folder / "model_index.json").is_file():
        return
    remedy = "give a folder that has it"
    if (folder / "config.json").is_file():
        remedy = "a part of a model is not enough; give its parent folder"
    elif files := sorted(folder.glob("*.safetensors")):
        remedy = f"to load a single file, give its path, such as {files[0]}"
    raise InputError(f"{folder} is not a diffusers model: it has no model_index.json; {remedy}")
