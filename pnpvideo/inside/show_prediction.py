"""The clean picture that each step expects: of the source, or of results as they are made."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.inside.subject import Strip, Subject
from pnpvideo.models.network import Batch
from pnpvideo.models.noise_schedule import Level
from pnpvideo.sampling.guidance import Guidance
from pnpvideo.sampling.schedule import clean_and_noise
from pnpvideo.stages.source import Source

_SHARES = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)


def clean_between(before: Tensor, after: Tensor, start: Level, end: Level) -> Tensor:
    """The clean latents that a DDIM step without noise of its own went by.

    before = a x + s eps and after = a' x + s' eps, solved for x (Song et al. 2021, equation 12).
    """
    below = start.noise * end.signal - end.noise * start.signal
    return (start.noise * after - end.noise * before) / below


@torch.no_grad()
def show_prediction(
    subject: Subject,
    prompts: Sequence[str],
    negative_prompts: Sequence[str],
    seed: int,
    shares: tuple[float, ...],
) -> list[Strip]:
    """Of results by prompt as they are sampled; without a prompt of the inverted sources."""
    steps = subject.steps(shares or _SHARES)
    if not prompts:
        return [_of_sources(subject, step) for step in steps]
    if subject.options.eta > 0:
        raise InputError(
            f"eta is {subject.options.eta:g}; what a step expects is shown for eta 0, where no "
            "noise lies over it"
        )
    found = [
        _of_results(subject, x, prompts, negative_prompts, seed, steps) for x in subject.sources
    ]
    return [
        Strip(
            row=prompt,
            column=subject.level_name(step),
            pictures=tuple(subject.decoded(clean[step][number]) for clean in found),
        )
        for number, prompt in enumerate(prompts)
        for step in steps
    ]


def _of_sources(subject: Subject, step: int) -> Strip:
    kind = subject.pipeline.schedule(subject.options).prediction_type
    level = subject.pipeline.schedule(subject.options).levels[step]

    def clean(source: Source) -> Tensor:
        trajectory, parts = source.trajectory, []
        network = subject.network_of(source)
        for first in range(0, trajectory.latents.shape[1], subject.batch_size):
            part = slice(first, first + subject.batch_size)
            latents = trajectory.latents[step, part].to(network.device).float()
            batch = Batch(
                latents=latents,
                timestep=trajectory.timesteps[step],
                texts=subject.text,
                frames=tuple(range(first, first + len(latents))),
            )
            output = network.predict(batch)
            parts.append(clean_and_noise(latents, output, level, kind)[0])
        return torch.cat(parts)

    pictures = tuple(subject.decoded(clean(source)) for source in subject.sources)
    return Strip(row="", column=subject.level_name(step), pictures=pictures)


def _of_results(
    subject: Subject,
    source: Source,
    prompts: Sequence[str],
    negative_prompts: Sequence[str],
    seed: int,
    steps: Sequence[int],
) -> dict[int, Tensor]:
    """By step: clean latents (prompts, frames, c, h, w)."""
    pipeline, options, size = subject.pipeline, subject.options, subject.batch_size
    levels = pipeline.schedule(options).levels
    found: dict[int, Tensor] = {}
    noise = pipeline.start(source, options, _generator(seed), size)[0]
    before = [noise.expand(len(prompts), *noise.shape)]

    def keep(step: int, timestep: float, latents: Tensor, guidance: Guidance) -> Tensor:
        if step in steps:
            found[step] = clean_between(before[0], latents, *levels[step : step + 2])
        before[0] = latents.clone()
        return latents

    embedded = pipeline.prompts(
        prompts,
        negative_prompts or None,
        clip_skip=options.clip_skip,
        weights=options.prompt_weights,
    )
    pipeline.sample(source, embedded, options, _generator(seed), batch_size=size, after_step=keep)
    return found


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
