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
from pnpvideo.sampling.denoise import AfterStep, OnPrediction, denoise_latents
from pnpvideo.sampling.guidance import Guidance, Texts
from pnpvideo.sampling.keep_outside import keep_outside
from pnpvideo.sampling.noise import noise_origins, starting_noise
from pnpvideo.sampling.spans import cut_into_spans
from pnpvideo.stages.callbacks import Callbacks
from pnpvideo.stages.mask import Mask
from pnpvideo.stages.prompts import Prompts, embed_source_prompt
from pnpvideo.stages.source import Source, area_identity
from pnpvideo.storage import fingerprint
from pnpvideo.storage.denoising_state import DenoisingState
from pnpvideo.storage.job_folder import JobFolder


@dataclass(frozen=True, kw_only=True)
class Start:
    """The start of sampling.

    noise: x_T, (pieces, c, h, w). scenes: the numbers of the pieces that may share anything.
    origins: how noise that pieces share moves (see `noise_origins`); None: it stands still.
    """

    noise: Tensor
    scenes: Sequence[range]
    origins: Tensor | None


@dataclass(frozen=True, kw_only=True)
class SampleRun:
    """One round of sampling: a result for each of its prompts.

    mask: the part that is edited. control: what a ControlNet follows. span: sample these pieces
    alone, one of `spans`, as they come out among all; None: all. job: keeps each finished step;
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
    guidance = Guidance(texts, options)
    done = 0 if run.resume is None else run.resume.steps
    bar_size, bar_done = len(span) * options.steps, len(span) * done
    with (
        model.network(run.control) as network,
        callbacks.bar("translating", bar_size, bar_done) as bar,
    ):
        latents = denoise_latents(
            network,
            model.layers,
            model.schedule(options, source.size),
            source.trajectory,
            start.noise.expand(len(run.prompts), *start.noise.shape),
            guidance,
            options,
            run.generator,
            batch_size=run.batch_size,
            scenes=start.scenes,
            origins=start.origins,
            span=span,
            resume=run.resume,
            after_step=_after_step(model, run, span, guidance, callbacks),
            on_prediction=_on_prediction(run, callbacks.on_prediction),
            stopped=callbacks.stopped,
            progress=bar.update,
        )
    model.release()
    return latents


def _after_step(
    model: Model, run: SampleRun, span: range, guidance: Guidance, callbacks: Callbacks
) -> AfterStep:
    """Return what is done after each step: keep the rest of the source, call back, save."""

    def after_step(step: int, timestep: float, latents: Tensor) -> Tensor:
        if run.mask is not None:
            source = run.source.trajectory.latents[step + 1, :]
            latents = keep_outside(latents, source, run.mask.latents)
        if callbacks.after_step is not None:
            latents = callbacks.after_step(step, timestep, latents, guidance)
        check_finite(latents, "network", model.dtype)
        if run.job is not None:
            state = DenoisingState(
                steps=step + 1,
                latents=latents[:, span.start : span.stop],
                generator=run.generator.get_state(),
                first=span.start,
            )
            run.job.save(state)
        return latents

    return after_step


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
    inverted = source.trajectory.noise.to(model.latent_dtype)
    scenes: Sequence[range] = (range(len(inverted)),)
    origins = None
    if len(inverted) > 1 and _is_shared(options):
        scenes = source.piece_scenes
        if options.noise_motion:
            height, width = inverted.shape[-2:]
            motion = estimate_motion(source.frames(batch_size), width, height)
            origins = noise_origins(motion, scenes, (height, width))
    noise = starting_noise(inverted, generator, options, scenes, origins)
    return Start(noise=noise, scenes=scenes, origins=origins)


def find_spans(
    source: Source, options: PnPOptions, count: int, batch_size: int
) -> tuple[range, ...]:
    """Cut a source's pieces into at most `count` spans that can be sampled one by one.

    Each comes out as it does among all: they are cut at scene cuts, or between any two batches if
    pieces share nothing.
    """
    pieces = source.piece_count
    if _is_shared(options):
        return cut_into_spans(pieces, [scene.start for scene in source.piece_scenes], count)
    return cut_into_spans(pieces, range(0, pieces, BRANCHES * batch_size), count)


def _is_shared(options: PnPOptions) -> bool:
    """Return whether the pieces of a scene share more than one noise that stands still."""
    attention = options.attention_sharing != "none"
    return attention or options.noise_source == "keyframe" or options.noise_motion
