"""The clean picture that each step expects: of the source, or of results as they are made."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.inside.subject import Strip, Subject
from pnpvideo.models.network import Batch
from pnpvideo.sampling.guidance import Guidance
from pnpvideo.sampling.schedule import clean_and_noise, clean_of_step
from pnpvideo.stages.edit import OpenEdit
from pnpvideo.stages.request import seeded

_SHARES = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)


@torch.no_grad()
def show_prediction(
    subject: Subject,
    prompts: Sequence[str],
    seed: int,
    shares: tuple[float, ...],
) -> list[Strip]:
    """Show results as they are sampled, prompt by prompt; without a prompt the inverted sources.

    prompts: the same as the subject was opened with.
    """
    steps = subject.steps(shares or _SHARES)
    if not prompts:
        return [_of_sources(subject, step) for step in steps]
    if subject.options.eta > 0:
        raise InputError(
            f"eta is {subject.options.eta:g}; give eta 0: with a larger eta a step adds noise, "
            "which would cover the prediction"
        )
    if not subject.options.injects:
        raise InputError(
            f"method is {subject.options.method}; predictions are shown only for inject"
        )
    found = [_of_results(subject, opened, seed, steps) for opened in subject.edits]
    return [
        Strip(
            row=prompt,
            column=subject.level_name(step),
            pictures=tuple(
                subject.decoded(clean[step][number], source)
                for clean, source in zip(found, subject.sources, strict=True)
            ),
        )
        for number, prompt in enumerate(prompts)
        for step in steps
    ]


def _of_sources(subject: Subject, step: int) -> Strip:
    def clean(opened: OpenEdit) -> Tensor:
        source, parts = opened.source, []
        schedule = subject.model.schedule(subject.options, source.size)
        with subject.network_of(opened) as network:
            for first in range(0, source.piece_count, subject.batch_size):
                part = slice(first, first + subject.batch_size)
                latents = source.trajectory.latents[step, part].to(network.device).float()
                batch = Batch(
                    latents=latents,
                    timestep=source.trajectory.timesteps[step],
                    texts=subject.text,
                    pieces=tuple(range(first, first + len(latents))),
                )
                output = network.predict(batch)
                level, kind = schedule.levels[step], schedule.prediction_type
                parts.append(clean_and_noise(latents, output, level, kind)[0])
        return torch.cat(parts)

    pictures = tuple(subject.decoded(clean(one), one.source) for one in subject.edits)
    return Strip(row="", column=subject.level_name(step), pictures=pictures)


def _of_results(
    subject: Subject, opened: OpenEdit, seed: int, steps: Sequence[int]
) -> dict[int, Tensor]:
    """Return clean latents (prompts, pieces, c, h, w) by step."""
    options = subject.options
    levels = subject.model.schedule(options, opened.source.size).levels
    found: dict[int, Tensor] = {}
    start = opened.start(seeded(seed)[0], options).latents
    assert opened.prompts is not None
    before = [start.expand(len(opened.prompts), *start.shape)]

    def keep(step: int, timestep: float, latents: Tensor, guidance: Guidance) -> Tensor:
        if step in steps:
            ends = before[0].to(latents), latents
            found[step] = clean_of_step(*ends, *levels[step : step + 2], eta=0).cpu()
        before[0] = latents.clone()
        return latents

    opened.sample(options, generators=seeded(seed), after_step=keep)
    return found
