"""The callback after each step of sampling, as diffusers defines it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.models.prompt import PromptEmbeddings, concatenate
from pnpvideo.sampling.guidance import Guidance, Texts
from pnpvideo.storage.job_folder import JobFolder

TENSORS = ("latents", "prompt_embeds", "negative_prompt_embeds", "add_text_embeds")
"""The tensors that a callback may read and replace, by their names in diffusers' pipelines."""


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
        returned = self.function(self.pipeline, step, when, dict(given)) or {}
        for name in returned:
            _check_name("what callback_on_step_end returns", name)
        changed = {k: v for k, v in returned.items() if v is not given.get(k)}
        if changed.keys() - {"latents"}:
            guidance.use(_replaced(texts, changed))
        guidance.scale = self.pipeline._guidance_scale
        guidance.low_noise_scale = self.pipeline._guidance_scale_2
        replaced: Tensor = changed.get("latents", latents)
        return replaced


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
        negatives = _with(negatives, "hidden", changed["negative_prompt_embeds"])
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
    if isinstance(function, PipelineCallback | MultiPipelineCallbacks):
        names = function.tensor_inputs
    if job is not None and set(names) - {"latents"}:
        raise InputError(
            "a job cannot keep embeddings that a callback changes; give it latents only"
        )
    called = function or (lambda *_: None)
    callback = StepCallback(pipeline=pipeline, function=called, names=tuple(names))
    return None if function is None else callback
