"""The callback after each step of sampling, as diffusers defines it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Tensor

from pnpvideo.clips.as_clip import check_strided
from pnpvideo.errors import InputError
from pnpvideo.models.prompt import PromptEmbeddings, concatenate
from pnpvideo.options.declared import shown
from pnpvideo.sampling.guidance import Guidance, Texts
from pnpvideo.storage.job_folder import JobFolder

TENSORS = ("latents", "prompt_embeds", "negative_prompt_embeds", "add_text_embeds")
"""The tensors that a callback may read and replace, by their names in diffusers' pipelines."""

_RETURNED = "callback_on_step_end returned"


class Called(Protocol):
    """A pipeline during a call, as callbacks may read and change it."""

    _guidance_scale: float
    _guidance_scale_2: float | None
    _interrupt: bool

    @property
    def _execution_device(self) -> torch.device: ...


@dataclass(frozen=True, kw_only=True)
class StepCallback:
    """A function that is called as (pipeline, step, timestep, tensors by name).

    The tensors that it returns under their names replace the old ones from then on, and the
    pipeline's `_guidance_scale` and `_guidance_scale_2` are read again, unless the network takes
    the scale as an input. They are:

    - `latents`: (prompts, frames, c, h, w);
    - `prompt_embeds`: (2 * prompts, tokens, channels), of negative prompts, then of prompts;
      without guidance the latter alone;
    - `add_text_embeds`: XL's pooled ones in the same order;
    - `negative_prompt_embeds`: the negative prompts alone.

    Attributes:
        pipeline: What it is called with.
        function: The function.
        names: Of the tensors to pass to it.
    """

    pipeline: Called
    function: Callable[..., Mapping[str, Any] | None]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in self.names:
            _check_name("callback_on_step_end_tensor_inputs", name)

    def __call__(self, step: int, timestep: float, latents: Tensor, guidance: Guidance) -> Tensor:
        """Return the latents to continue with, and pass its other changes to the guidance."""
        texts = guidance.run_texts
        guides = [texts.negatives] if guidance.reads_negatives else []
        both = [*guides, texts.targets]
        pooled = [part.pooled for part in both if part.pooled is not None]
        tensors = {
            "latents": latents,
            "prompt_embeds": concatenate(both).hidden,
            "negative_prompt_embeds": texts.negatives.hidden,
            "add_text_embeds": torch.cat(pooled) if pooled else None,
        }
        given = {name: tensors[name] for name in self.names}
        # A tensor, as the scheduler's timesteps are that diffusers passes.
        when = torch.tensor(timestep, device=self.pipeline._execution_device)
        # Before the callback, which may change them in place.
        is_finite = bool(latents.isfinite().all())
        returned = self.function(self.pipeline, step, when, dict(given))
        changed = _changed(returned, given, tensors, any_length=texts.targets.lengths is None)
        if is_finite and not changed.get("latents", latents).isfinite().all():
            raise InputError(f"{_RETURNED} latents with values that are not numbers (NaN)")
        if changed.keys() - {"latents"}:
            guidance.use(_replaced(texts, changed))
        guidance.scale = self.pipeline._guidance_scale
        guidance.low_noise_scale = self.pipeline._guidance_scale_2
        return changed.get("latents", latents)


def _changed(
    returned: Mapping[str, Any] | None,
    given: Mapping[str, Tensor | None],
    own: Mapping[str, Tensor | None],
    *,
    any_length: bool,
) -> dict[str, Tensor]:
    """Return the tensors that a callback replaces. InputError for what cannot be used.

    given: what it was called with. own: all of these tensors. any_length: whether texts may have
    another number of tokens.
    """
    if returned is None:
        return {}
    if not isinstance(returned, Mapping):
        raise InputError(f"{_RETURNED} {shown(returned)}; give a dict of tensors by name, or None")
    changed = {}
    for name, value in returned.items():
        _check_name("what callback_on_step_end returns", name)
        before = own[name]
        if name in given and value is given[name]:
            continue
        if before is None:
            raise InputError(f"{_RETURNED} {name}, which this model does not have; leave it out")
        if not isinstance(value, Tensor):
            raise InputError(f"{_RETURNED} a {type(value).__name__} as {name}; give a tensor")
        check_strided(value, f"{name} of callback_on_step_end")
        free = 0 if name == "latents" else 2 if any_length and value.ndim == 3 else 1
        if value.ndim != before.ndim or value.shape[free:] != before.shape[free:]:
            raise InputError(
                f"{_RETURNED} {name} of shape {tuple(value.shape)}; give {tuple(before.shape)}"
            )
        if name != "latents" and not value.isfinite().all():
            raise InputError(f"{_RETURNED} {name} with values that are not numbers (NaN)")
        changed[name] = value.detach().to(before)
    return changed


def _check_name(where: str, name: str) -> None:
    if name not in TENSORS:
        raise InputError(f"{where} may not hold {name!r}; give some of {', '.join(TENSORS)}")


def _replaced(texts: Texts, changed: Mapping[str, Tensor]) -> Texts:
    """Return the texts with the changed embeddings; negative ones left out become empty."""
    count = len(texts.targets)
    targets, negatives = texts.targets, texts.negatives
    for name, field in {"prompt_embeds": "hidden", "add_text_embeds": "pooled"}.items():
        both = changed.get(name)
        if both is None:
            continue
        if len(both) not in (count, 2 * count):
            raise InputError(
                f"the callback returned {name} with {len(both)} rows; give {count} or {2 * count}"
            )
        targets = _with(targets, field, both[-count:])
        negatives = _with(negatives, field, both[:-count])
    if "negative_prompt_embeds" in changed:
        own = changed["negative_prompt_embeds"]
        if len(own) not in (0, count):
            raise InputError(
                f"the callback returned negative_prompt_embeds with {len(own)} rows; give {count}"
            )
        negatives = _with(negatives, "hidden", own)
    return replace(texts, targets=targets, negatives=negatives)


def _with(embeddings: PromptEmbeddings, field: str, tensor: Tensor) -> PromptEmbeddings:
    return replace(embeddings, **{field: tensor})  # type: ignore[arg-type]


def step_callback(
    pipeline: Called,
    function: Callable[..., Mapping[str, Any] | None] | None,
    names: Sequence[str],
    job: JobFolder | None,
) -> StepCallback | None:
    """Return the callback of a call. InputError for tensors that it may not be given."""
    if function is not None and not callable(function):
        raise InputError(f"callback_on_step_end is {shown(function)}; give a function")
    if isinstance(function, PipelineCallback | MultiPipelineCallbacks):
        names = function.tensor_inputs
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise InputError(
            f"callback_on_step_end_tensor_inputs is {shown(names)}; give a list of some of "
            f"{', '.join(TENSORS)}"
        )
    if job is not None and any(name != "latents" for name in names):
        raise InputError(
            "a job cannot keep embeddings that a callback changes; give it latents only"
        )
    called = function or (lambda *_: None)
    callback = StepCallback(pipeline=pipeline, function=called, names=tuple(names))
    return None if function is None else callback
