"""Samples the results of an inverted source, with the source injected."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from pnpvideo.models.failures import check_finite
from pnpvideo.models.model import Control, Model
from pnpvideo.options.declared import Lifetime
from pnpvideo.options.method import BRANCHES, PnPOptions
from pnpvideo.pixels.flow import estimate_motion
from pnpvideo.sampling.denoise import AfterStep, denoise_latents
from pnpvideo.sampling.guidance import Guidance, Texts
from pnpvideo.sampling.keep_outside import keep_outside
from pnpvideo.sampling.noise import common_noise, noise_origins, starting_noise
from pnpvideo.sampling.noised import noised
from pnpvideo.sampling.schedule import first_step
from pnpvideo.sampling.spans import cut_into_spans
from pnpvideo.sampling.steps import OnPrediction
from pnpvideo.stages.callbacks import Callbacks
from pnpvideo.stages.mask import Mask
from pnpvideo.stages.prompts import Prompts, embed_source_prompt
from pnpvideo.stages.source import Source, area_identity
from pnpvideo.storage import fingerprint
from pnpvideo.storage.denoising_state import DenoisingState
from pnpvideo.storage.job_folder import JobFolder
from pnpvideo.storage.trajectory import Trajectory

_JOB_PARTS = 8
"""The most parts in which the pieces of a run with a job folder are sampled."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """The start of sampling.

    latents: at the level that sampling starts from, (pieces, c, h, w). source: what is read of the
    source at all levels. scenes: the numbers of the pieces that may share anything. origins: how
    noise that pieces share moves (see `noise_origins`); None: it stands still.
    """

    latents: Tensor
    source: Trajectory
    scenes: Sequence[range]
    origins: Tensor | None


@dataclass(frozen=True, kw_only=True)
class SampleRun:
    """One round of sampling: a result for each of its prompts.

    mask: the part that is edited. control: what a ControlNet follows. span: one of `spans`: sample
    only these pieces, with the same result as among all; None: all. job: keeps each finished step;
    resume: the step that an earlier run got to.
    """

    source: Source
    prompts: Prompts
    options: PnPOptions
    generator: torch.Generator
    batch_size: int
    mask: Mask | None = None
    control: Control | None = None
    span: range | None = None
    job: JobFolder | None = None
    resume: DenoisingState | None = None


def sample(model: Model, run: SampleRun, callbacks: Callbacks) -> Tensor:
    """Return clean latents (prompts, pieces, c, h, w) of the results of an inverted source."""
    source, options = run.source, run.options
    span = run.span or range(source.piece_count)
    start = find_start(model, source, options, run.generator, run.batch_size)
    texts = Texts(
        source=embed_source_prompt(model, source.trajectory.prompt, options),
        targets=run.prompts.targets,
        negatives=run.prompts.negatives,
        unconditional=model.encode_texts([""]),
    )
    guidance = Guidance(
        texts,
        options,
        model.rescaled,
        together=source.clips is not None,
        boundary=model.boundary,
    )
    steps = options.steps - first_step(options)
    latents = start.latents.expand(len(run.prompts), *start.latents.shape)
    velocities = None
    if options.injects and options.solver == "fireflow":
        velocities = torch.zeros_like(latents)
    after_step = _after_step(model, run, start.source, span, velocities, guidance, callbacks)
    bar_size, bar_done = len(span) * steps, _frame_steps(run, span, steps)
    with (
        model.network(run.control) as network,
        callbacks.bar("translating", bar_size, bar_done) as bar,
    ):
        latents = denoise_latents(
            network,
            model.layers,
            model.schedule(options, source.size),
            start.source,
            latents,
            guidance,
            options,
            run.generator,
            batch_size=run.batch_size,
            scenes=start.scenes,
            window=model.window,
            packing=model.packing,
            origins=start.origins,
            span=span,
            pieces_at_once=_pieces_at_once(run, len(span), callbacks),
            resume=run.resume,
            velocities=velocities,
            after_step=after_step,
            on_prediction=_on_prediction(run, callbacks.on_prediction),
            stopped=callbacks.stopped,
            progress=bar.update,
        )
    if steps == 0 and run.job is not None:
        run.job.save(_state(run, options.steps, latents, velocities, span, span))
    model.release()
    return latents


def _pieces_at_once(run: SampleRun, piece_count: int, callbacks: Callbacks) -> int | None:
    """Return how many pieces go through all steps before the next ones; None: all together.

    What is read of their source once is then in memory for these alone.
    """
    options = run.options
    watched = callbacks.after_step is not None or callbacks.on_prediction is not None
    together = options.attention_sharing != "none" or options.eta > 0 or watched
    if options.feature_level == 1 or together:
        return None
    # A job folder keeps the latents of all pieces after each step of some.
    return max(run.batch_size, 0 if run.job is None else -(-piece_count // _JOB_PARTS))


def _frame_steps(run: SampleRun, span: range, steps: int) -> int:
    """Return how many steps of single pieces an earlier run has done. steps: of each piece."""
    if run.resume is None:
        return 0
    part = run.resume.under_way
    done = run.resume.steps - (run.options.steps - steps)
    return (part.start - span.start) * steps + len(part) * done


def _after_step(
    model: Model,
    run: SampleRun,
    source: Trajectory,
    span: range,
    velocities: Tensor | None,
    guidance: Guidance,
    callbacks: Callbacks,
) -> AfterStep:
    """Return what is done after each step: keep the rest of the source, call back, save."""

    def after_step(step: int, timestep: float, latents: Tensor, part: range) -> Tensor:
        some = slice(part.start, part.stop)
        if run.mask is not None:
            level = -1 if run.options.edits_clean else step + 1
            outside, weights = source.latents[level, some], run.mask.latents[some]
            latents[:, some] = keep_outside(latents[:, some], outside, weights)
        if callbacks.after_step is not None:
            latents = callbacks.after_step(step, timestep, latents, guidance)
        check_finite(latents[:, some], "network", model.dtype)
        if run.job is not None:
            run.job.save(_state(run, step + 1, latents, velocities, span, part))
        return latents

    return after_step


def _state(
    run: SampleRun,
    steps: int,
    latents: Tensor,
    velocities: Tensor | None,
    span: range,
    part: range,
) -> DenoisingState:
    """Return the state after so many steps of a part of a span."""
    whole = slice(span.start, span.stop)
    return DenoisingState(
        steps=steps,
        latents=latents[:, whole].cpu(),
        velocities=None if velocities is None else velocities[:, whole].cpu(),
        generator=run.generator.get_state(),
        first=span.start,
        part=part,
    )


def _on_prediction(run: SampleRun, function: OnPrediction | None) -> OnPrediction | None:
    """Return a function that is called with predictions in which the rest of the source is kept."""
    if function is None or run.mask is None:
        return function
    mask, clean = run.mask.latents, run.source.trajectory.clean

    def on_prediction(step: int, predicted: Tensor) -> None:
        function(step, keep_outside(predicted, clean, mask))

    return on_prediction


def find_resume(
    model: Model,
    source: Source,
    prompts: Prompts,
    options: PnPOptions,
    generator: torch.Generator,
    job: JobFolder,
) -> DenoisingState | None:
    """Return the step that an earlier run of the same sampling got to. Logs what is reused."""
    seed = fingerprint.of_tensors([("generator", generator.get_state())])
    layers = fingerprint.of_values(asdict(model.layers))
    own = options.identity(Lifetime.INVERSION, Lifetime.SAMPLING) | area_identity(source.area)
    return job.state(own | source.identity | prompts.identity | {"layers": layers, "seed": seed})


def find_start(
    model: Model,
    source: Source,
    options: PnPOptions,
    generator: torch.Generator,
    batch_size: int,
) -> Start:
    """Return what sampling starts from, as far as the options ask for it."""
    trajectory = source.trajectory
    scenes: Sequence[range] = (range(source.piece_count),)
    origins = None
    if source.clips is not None or (source.piece_count > 1 and _is_shared(options)):
        scenes = source.piece_scenes
        if options.noise_motion:
            height, width = trajectory.shape.piece[-2:]
            motion = estimate_motion(source.frames(batch_size), width, height)
            origins = noise_origins(motion, scenes, (height, width))
    step = first_step(options)
    if options.edits_clean:
        latents = trajectory.clean.to(model.latent_dtype)
    elif options.inverts:
        latents = trajectory.latents[step, :].to(model.latent_dtype)
        latents = starting_noise(latents, generator, options, scenes, origins)
    else:
        clean = trajectory.clean.to(model.latent_dtype)
        eps = common_noise(clean, generator, origins, each=source.clips is not None)
        schedule = model.schedule(options, source.size)
        trajectory = noised(trajectory, eps, schedule)
        latents = trajectory.latents[step, :]
        if options.start_from == "noise":
            # As strong as diffusers starts from, at levels whose signal is not scaled down, too.
            latents = (schedule.levels[0].power ** 0.5 * eps).expand_as(clean)
    return Start(latents=latents, source=trajectory, scenes=scenes, origins=origins)


def find_spans(
    source: Source, options: PnPOptions, count: int, batch_size: int
) -> tuple[range, ...]:
    """Cut a source's pieces into at most `count` spans that can be sampled one by one.

    Each comes out as it does among all: they are cut at scene cuts, or between any two batches if
    pieces share nothing.
    """
    pieces = source.piece_count
    if source.clips is not None or _is_shared(options):
        return cut_into_spans(pieces, [scene.start for scene in source.piece_scenes], count)
    return cut_into_spans(pieces, range(0, pieces, BRANCHES * batch_size), count)


def _is_shared(options: PnPOptions) -> bool:
    """Return whether the pieces of a scene share more than one noise that stands still."""
    attention = options.attention_sharing != "none"
    return attention or options.noise_source == "keyframe" or options.noise_motion
