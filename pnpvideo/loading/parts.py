"""Loading of single parts of a model, with errors of one line."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from pnpvideo.catalogue.find_model import download_elsewhere, is_offline, not_in_cache
from pnpvideo.catalogue.short_names import replacement_of
from pnpvideo.errors import InputError, RunError
from pnpvideo.files.read_text import parse_json, read_text
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


def check_scaling(model: str | Path, config: Mapping[str, Any]) -> None:
    """Raise InputError unless an autoencoder's latents can be scaled as its configuration says.

    A factor is one number; a mean and a deviation are lists, with a number for each channel.
    """
    channels = config.get("z_dim", config.get("latent_channels"))
    for name, count, may_be_zero in (
        ("scaling_factor", None, False),
        ("shift_factor", None, True),
        ("latents_mean", channels, True),
        ("latents_std", channels, False),
    ):
        given = config.get(name)
        if name not in config or (given is None and name != "scaling_factor"):
            continue
        numbers = [given] if count is None else given
        if not isinstance(numbers, list | tuple) or (count is not None and len(numbers) != count):
            raise _wrong_scaling(model, name, given, f"a list of {count} numbers")
        for number in numbers:
            if not _is_number(number) or (number == 0 and not may_be_zero):
                raise _wrong_scaling(model, name, number, "a number" + " but 0" * (not may_be_zero))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _wrong_scaling(model: str | Path, name: str, given: object, wanted: str) -> InputError:
    return InputError(
        f"the model {model} cannot be loaded: the configuration of its autoencoder has {name} "
        f"{given!r:.40}, and {wanted} is needed; copy vae/config.json from where the model comes "
        "from"
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
        _check_configurations(folder)
        return
    remedy = "give a folder that has it"
    if (folder / "config.json").is_file():
        remedy = "a part of a model is not enough; give its parent folder"
    elif files := sorted(folder.glob("*.safetensors")):
        remedy = f"to load a single file, give its path, such as {files[0]}"
    raise InputError(f"{folder} is not a diffusers model: it has no model_index.json; {remedy}")


def _check_configurations(folder: Path) -> None:
    """Raise InputError unless all of a model's files of settings have names with values.

    Some loaders take other JSON for the name of a model on the hub.
    """
    parts = [*folder.glob("*/config.json"), *folder.glob("*/scheduler_config.json")]
    for path in (folder / "model_index.json", *sorted(parts)):
        found = parse_json(read_text(path), path)
        if not isinstance(found, dict) or not found:
            raise InputError(
                f"{path} is damaged: it holds {found!r:.40} in place of names with values; "
                "download or copy the whole model"
            )
        if path.parent == folder and not isinstance(found.get("_class_name"), str):
            raise InputError(
                f"{path} does not name the class of the model's pipeline (_class_name); download "
                "or copy the whole model"
            )
