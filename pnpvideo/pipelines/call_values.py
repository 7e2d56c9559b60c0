"""Checks of the types of a call's values, before any work."""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from pnpvideo.clips.as_clip import check_strided
from pnpvideo.errors import InputError
from pnpvideo.options.declared import check_text
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import SourceSettings
from pnpvideo.options.values import plain_number
from pnpvideo.stages.prompts import Texts
from pnpvideo.storage.allocate import Storage
from pnpvideo.storage.job_folder import JobFolder
from pnpvideo.storage.trajectory import Trajectory

Generators = torch.Generator | Sequence[torch.Generator]
"""One that draws all noise of a call, or one for each result."""

_TYPES: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "guidance_prompt": (str, "a text"),
    "inversion_prompt": (str, "a text"),
    "options": (PnPOptions, "PnPOptions, such as pipeline.model_options.override({'tau_f': 0.5})"),
    "trajectory": (Trajectory, "the trajectory of an earlier output"),
    "storage": (Storage, "a Storage"),
    "job": (JobFolder, 'a JobFolder, such as JobFolder("job")'),
    "cross_attention_kwargs": (Mapping, 'a dict, such as {"scale": 0.5}'),
}
_AXES = {
    "prompt_embeds": ("prompts", "tokens", "channels"),
    "pooled_prompt_embeds": ("prompts", "channels"),
    "negative_prompt_embeds": ("prompts", "tokens", "channels"),
    "negative_pooled_prompt_embeds": ("prompts", "channels"),
}
_GENERATOR = "a torch.Generator, such as torch.Generator().manual_seed(0), or a list of them"


def check_types(values: Mapping[str, object]) -> None:
    """Raise InputError for a value of another type than a call's keyword has; None is not given.

    values: all that a call was given, by name.
    """
    for name in ("prompt", "negative_prompt"):
        _check_texts(name, values.get(name))
    for name, (kinds, wanted) in _TYPES.items():
        value = values.get(name)
        if value is not None and not isinstance(value, kinds):
            raise InputError(f"{name} is {_shown(value)}; give {wanted}")
        if isinstance(value, str):
            check_text(value)
    for name, axes in _AXES.items():
        _check_embeddings(name, values.get(name), axes)


def _check_embeddings(name: str, value: object, axes: Sequence[str]) -> None:
    """Raise InputError unless a value is a tensor of numbers with these axes, or not given."""
    if value is None:
        return
    if not isinstance(value, Tensor) or value.ndim != len(axes) or 0 in value.shape:
        raise InputError(f"{name} is {_shown(value)}; give a tensor ({', '.join(axes)})")
    check_strided(value, name)
    if not value.isfinite().all():
        raise InputError(f"{name} has values that are not numbers (NaN)")


def _check_texts(name: str, texts: object) -> None:
    """Raise InputError unless a value is a text, several texts, or not given."""
    if texts is None:
        return
    several = [texts] if isinstance(texts, str) else texts
    if not isinstance(several, Sequence) or isinstance(several, bytes) or not several:
        several = [None]
    for text in several:
        if not isinstance(text, str):
            raise InputError(f"{name} is {_shown(texts)}; give a text or a list of texts")
        check_text(text)


def size_of_call(height: object, width: object) -> tuple[int, int] | None:
    """Return the working (width, height) of a call, or None for the model's own."""
    if (height is None) != (width is None):
        raise InputError("give both height and width, or neither")
    if height is None:
        return None
    numbers = {"width": plain_number(width), "height": plain_number(height)}
    for name, number in numbers.items():
        if type(number) is not int:
            raise InputError(f"{name} is {number!r}; give a whole number of pixels")
    return SourceSettings.of({"size": tuple(numbers.values())}).size


def whole_count(name: str, given: object) -> int:
    """Return a whole number of at least 1. InputError for other values."""
    number = plain_number(given)
    if type(number) is not int or number < 1:
        raise InputError(f"{name} is {number!r}; give a whole number of at least 1")
    return number


def timesteps_of(given: object, trained: int) -> tuple[int, ...] | None:
    """Return the timesteps of a call's own schedule; None if none are given.

    trained: the number of timesteps of the model's training. InputError unless they are whole
    numbers below that which fall strictly.
    """
    if given is None:
        return None
    listed = given.tolist() if hasattr(given, "tolist") else given
    numbers = [plain_number(one) for one in listed] if isinstance(listed, list | tuple) else []
    if not numbers:
        raise InputError(f"timesteps is {_shown(given)}; give a list of whole numbers")
    for number in numbers:
        if type(number) is not int or not 0 <= number < trained:
            raise InputError(
                f"timesteps holds {number!r}; give whole numbers from {trained - 1} down to 0"
            )
    for high, low in pairwise(numbers):
        if high <= low:  # type: ignore[operator]
            raise InputError(f"timesteps holds {low} after {high}; they must fall strictly")
    return tuple(numbers)  # type: ignore[arg-type]


def with_timesteps(
    options: PnPOptions, timesteps: Sequence[int] | None, given: Collection[str]
) -> PnPOptions:
    """Return options with as many steps as there are timesteps; None leaves them as they are.

    given: the names of options that a call was given. InputError if they say the steps, too.
    """
    if timesteps is None:
        return options
    for name in ("num_inference_steps", "steps", "preset"):
        if name in given:
            raise InputError(f"timesteps says how many steps there are; leave out {name}")
    finer = options.inversion_steps and options.inversion_steps // options.steps * len(timesteps)
    return options.override({"steps": len(timesteps), "inversion_steps": finer})


def check_drawn(images: int, options: PnPOptions) -> None:
    """Raise InputError if several results of one prompt would be the same."""
    if images > 1 and not options.draws:
        raise InputError(
            f"num_images_per_prompt is {images}, and all would be the same, as the noise is the "
            "source's; give noise_share or eta above 0"
        )


def generators_of(given: object, texts: Texts | None, images: int) -> Sequence[torch.Generator]:
    """Return one generator, or one for each result. InputError for others."""
    if given is None:
        given = torch.Generator()
        given.seed()
    several = list(given) if isinstance(given, list | tuple) else [given]
    generators = [one for one in several if isinstance(one, torch.Generator)]
    if not several or len(generators) < len(several):
        raise InputError(f"generator is {_shown(given)}; give {_GENERATOR}")
    prompts = 1 if texts is None or isinstance(texts, str) else len(texts)
    if len(generators) not in (1, results := prompts * images):
        raise InputError(
            f"there are {len(generators)} generators for {results} results; give one, or one for "
            "each"
        )
    return generators


def _shown(value: object) -> str:
    """Return a value as a message can show it, on one line."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    text = repr(value) if isinstance(value, str | int | float | list | tuple | Path | dict) else ""
    return text if text and len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"
