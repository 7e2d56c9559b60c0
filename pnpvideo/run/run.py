"""One run, from file to file, with a model that is loaded for it or was loaded before."""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pnpvideo.clips.clip import Clip
from pnpvideo.files.atomic_output import claimed, folder_above
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import Settings
from pnpvideo.options.settings_file import write_settings
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.pixels.resize import psnr_of
from pnpvideo.run.opening import (
    Inputs,
    check_additions,
    choose_device,
    load_pipeline,
    read_inputs,
    storage_of,
    told_memory,
)
from pnpvideo.run.outputs import Outputs, plan_outputs, write_compare, write_result
from pnpvideo.stages.prompts import Prompts
from pnpvideo.stages.source import Source
from pnpvideo.stages.step_callback import StepCallback
from pnpvideo.storage.job_folder import JobFolder

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """How near the source comes when it is sampled back: PSNR in dB, higher is nearer.

    reconstruction: of the frames sampled back from z_T; autoencoder: of frames only encoded and
    decoded, the most that any inversion can reach.
    """

    reconstruction: float
    autoencoder: float


@dataclass(frozen=True, kw_only=True)
class Translation:
    """What a run wrote.

    outputs: one for each prompt; compares: the same, source beside result. frames, size (width,
    height): of each. seconds: that the run took.
    """

    outputs: tuple[Path, ...]
    compares: tuple[Path, ...]
    settings: Path
    inversion: Inversion | None
    frames: int
    size: tuple[int, int]
    seconds: float


def translate(
    source: str | Path | None = None,
    prompt: str | list[str] | tuple[str, ...] = (),
    *,
    pipeline: PnPVideoPipeline | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    **settings: object,
) -> Translation:
    """Translate a clip, a frame sequence or an image to what a prompt says.

    source, prompt, settings: the options of `Settings`. The rest is as in `run`.
    """
    values = {"source": source, "prompt": prompt} | settings
    return run(Settings.of(values), pipeline, overwrite=overwrite, quiet=quiet)


def run(
    settings: Settings,
    pipeline: PnPVideoPipeline | None = None,
    *,
    overwrite: bool = False,
    quiet: bool = False,
    with_source: Callable[[Source], None] | None = None,
    after_step: Callable[..., Mapping[str, Tensor] | None] | None = None,
    on_prediction: Callable[[int, Tensor], None] | None = None,
    bars: "type[tqdm[NoReturn]] | None" = None,
    job: Path | None = None,
) -> Translation:
    """One run; its full settings are written beside the result as NAME.yaml.

    pipeline: a loaded model that serves many runs, used as and where it is: the settings of the
    model are then those that it was loaded with (see `load_pipeline`). overwrite: replace results
    that exist. quiet: no bars. with_source: called once with the source, which the model may have
    made. after_step: called after each step of sampling, with latents
    (see `StepCallback`). on_prediction: called at each step with the clean latents (prompts,
    frames, c, h, w) that the network expects, whatever eta is. bars: the kind of progress bar, None
    for the pipeline's own. job: a job folder that is the caller's own matter, in place of that of
    the settings.
    Raises InputError for what the user gave, RunError for what failed.
    """
    began = time.monotonic()
    with contextlib.ExitStack() as open_things:
        # 1. Check everything that costs nothing before anything that costs time
        device = choose_device(settings) if pipeline is None else pipeline.device
        inputs = read_inputs(settings, open_things)
        clip = inputs.clip
        if pipeline is None:
            check_additions(settings)
        outputs = plan_outputs(settings, clip, overwrite)
        for path in (*outputs.results, *outputs.compares, str(outputs.record)):
            open_things.enter_context(claimed(Path(path)))
        kept = settings.job if job is None else job
        folder = None if kept is None else open_things.enter_context(JobFolder(kept))

        # 2. Load the model
        if pipeline is None:
            pipeline = load_pipeline(settings, device)
        pipeline.set_progress_bar_config(disable=quiet)
        pipeline.bars = bars or pipeline.bars
        _log.debug("%s on %s in %s", settings.model, device, pipeline.dtype)
        options = settings.resolve(pipeline.model_options)
        if ignored := settings.ignored(options):
            _log.warning("%s", ignored)
        with told_memory(device):
            # 3. Read, invert, denoise
            generator = torch.Generator().manual_seed(settings.seed)
            results = folder_above(Path(outputs.output))
            source = _open(
                pipeline, inputs, settings, options, generator, results, folder, open_things
            )
            if with_source is not None:
                with_source(source)
            latents = pipeline.sample(
                source,
                _prompts(pipeline, inputs, settings, options),
                options,
                generator,
                batch_size=settings.batch_size,
                job=folder,
                after_step=_callback(pipeline, after_step, options),
                on_prediction=on_prediction,
            )
            # 4. Decode and write
            inversion = _write(
                pipeline, latents, source, clip, outputs, options, settings, overwrite
            )
        resolved = options.plain() | {"output": outputs.output}
        write_settings(settings, outputs.record, resolved, overwrite=overwrite)
    return Translation(
        outputs=tuple(map(Path, outputs.results)),
        compares=tuple(map(Path, outputs.compares)),
        settings=outputs.record,
        inversion=inversion,
        frames=source.trajectory.latents.shape[1],
        size=(clip.width, clip.height) if clip and settings.original_size else source.size,
        seconds=time.monotonic() - began,
    )


def run_span(
    settings: Settings, pipeline: PnPVideoPipeline, job: Path, *, number: int, count: int
) -> None:
    """Invert and sample one of `count` spans of a source, and keep that in a job folder.

    number: of the span, from 0; there may be fewer, as they end at scene cuts. When all are there,
    `join_spans` makes a job folder of them, with which a run has nothing left to do but to write.
    """
    with contextlib.ExitStack() as open_things:
        inputs = read_inputs(settings, open_things)
        pipeline.set_progress_bar_config(disable=True)
        options = settings.resolve(pipeline.model_options)
        with told_memory(pipeline.device):
            generator = torch.Generator().manual_seed(settings.seed)
            folder = open_things.enter_context(JobFolder(job, keep_state=True))
            source = _open(pipeline, inputs, settings, options, generator, job, folder, open_things)
            spans = pipeline.spans(source, options, count, settings.batch_size)
            if number < len(spans):
                pipeline.sample(
                    source,
                    _prompts(pipeline, inputs, settings, options),
                    options,
                    generator,
                    batch_size=settings.batch_size,
                    job=folder,
                    span=spans[number],
                )


def _open(
    pipeline: PnPVideoPipeline,
    inputs: Inputs,
    settings: Settings,
    options: PnPOptions,
    generator: torch.Generator,
    results: Path,
    job: JobFolder | None,
    open_things: contextlib.ExitStack,
) -> Source:
    """results: the folder in which a trajectory lies that is kept in a file."""
    source = pipeline.open_source(
        inputs.clip,
        area=inputs.area,
        control_image=inputs.control_image,
        guidance_prompt=settings.guidance_prompt,
        inversion_prompt=settings.inversion_prompt,
        size=settings.size,
        options=options,
        generator=generator,
        batch_size=settings.batch_size,
        storage=storage_of(settings, results),
        job=job,
    )
    open_things.callback(source.close)
    open_things.callback(source.trajectory.close)
    return source


def _prompts(
    pipeline: PnPVideoPipeline, inputs: Inputs, settings: Settings, options: PnPOptions
) -> Prompts:
    return pipeline.prompts(
        settings.prompt,
        settings.negative_prompt or None,
        image=inputs.picture,
        clip_skip=options.clip_skip,
        weights=options.prompt_weights,
    )


def _write(
    pipeline: PnPVideoPipeline,
    latents: Tensor,
    source: Source,
    clip: Clip | None,
    outputs: Outputs,
    options: PnPOptions,
    settings: Settings,
    overwrite: bool,
) -> Inversion | None:
    """Decode and write each result, and what is to be seen beside or told of the source."""
    for one, path in zip(latents, outputs.results, strict=True):
        frames = pipeline.finish(one, source, options.blend_radius, settings.batch_size)
        mask = source.mask.batches(settings.batch_size) if source.mask else None
        write_result(frames, path, clip, settings, overwrite, mask)
        _log.debug("%s is written", path)
    if clip is None:
        return None
    for path, compare in zip(outputs.results, outputs.compares, strict=False):
        write_compare(path, compare, clip, settings, overwrite)
    if not settings.check_inversion:
        return None
    return check_inversion(pipeline, source, options, settings.batch_size)


def _callback(
    pipeline: PnPVideoPipeline,
    function: Callable[..., Mapping[str, Tensor] | None] | None,
    options: PnPOptions,
) -> StepCallback | None:
    if function is None:
        return None
    pipeline._guidance_scale = options.guidance_scale
    return StepCallback(pipeline=pipeline, function=function, names=("latents",))


def check_inversion(
    pipeline: PnPVideoPipeline, source: Source, options: PnPOptions, batch_size: int
) -> Inversion:
    """Sample a source back from its trajectory, which is there."""
    control = pipeline.find_control(source, options, batch_size=batch_size)
    back = pipeline.reconstruct(source.trajectory, options, batch_size=batch_size, control=control)

    def psnr(latents: Tensor) -> float:
        decoded = pipeline.decode(latents, batch_size)
        errors = [
            np.square(a.astype(np.float32) - b).mean(axis=(1, 2, 3))
            for a, b in zip(source.frames(batch_size), decoded, strict=True)
        ]
        return psnr_of(float(np.concatenate(errors).mean()), peak=255)

    return Inversion(reconstruction=psnr(back), autoencoder=psnr(source.trajectory.clean))
