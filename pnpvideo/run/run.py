"""One run, from file to file, with a model that is loaded for it or was loaded before."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from pnpvideo.clips.clip import Clip
from pnpvideo.clips.read import read_clip
from pnpvideo.errors import InputError, RunError
from pnpvideo.files.atomic_output import claimed, folder_above
from pnpvideo.loading.ip_adapter import find_encoder, read_ip_adapter
from pnpvideo.loading.load import default_device, default_dtype
from pnpvideo.models.batches import is_out_of_memory
from pnpvideo.options.adapter import AdapterSettings
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import (
    MachineSettings,
    ModelSettings,
    ReadSettings,
    Settings,
    write_settings,
)
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline, picture_of
from pnpvideo.pixels.control import check_control
from pnpvideo.pixels.mask import Area, check_mask
from pnpvideo.pixels.resize import psnr_of
from pnpvideo.run.outputs import Outputs, plan_outputs, write_compare, write_result
from pnpvideo.stages.prompts import Prompts
from pnpvideo.stages.source import Source
from pnpvideo.stages.step_callback import StepCallback
from pnpvideo.storage.allocate import Storage
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
class Inputs:
    """What a run reads. clip: the source; None where the model makes it. picture: what an
    IP-Adapter reads.
    """

    clip: Clip | None
    area: Area | None
    control_image: Clip | None
    picture: Image.Image | None


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
    bars: "type[tqdm[NoReturn]] | None" = None,
    job: Path | None = None,
) -> Translation:
    """One run; its full settings are written beside the result as NAME.yaml.

    pipeline: a loaded model that serves many runs, used as and where it is: the settings of the
    model are then those that it was loaded with (see `load_pipeline`). overwrite: replace results
    that exist. quiet: no bars. with_source: called once with the source, which the model may have
    made. after_step: called after each step of sampling, with latents
    (see `StepCallback`). bars: the kind of progress bar, None for the pipeline's own. job: a job
    folder that is the caller's own matter, in place of that of the settings.
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


def read_inputs(settings: Settings, open_things: contextlib.ExitStack) -> Inputs:
    """All that a run reads, closed at the end of a context. InputError where that cannot be."""
    clip = picture = None
    if settings.source is not None:
        clip = read_clip(settings.source, **settings.part(ReadSettings))
        open_things.callback(clip.close)
        _log.debug("%s: %d frames, %d x %d", clip.name, len(clip), clip.width, clip.height)
    area = read_area(settings, clip, open_things)
    control_image = read_control(settings, clip, open_things)
    if settings.ip_adapter_image is not None:
        picture = picture_of(settings.ip_adapter_image)
    return Inputs(clip=clip, area=area, control_image=control_image, picture=picture)


def read_area(
    settings: Settings, clip: Clip | None, open_things: contextlib.ExitStack
) -> Area | None:
    """What a run edits."""
    mask = None
    if settings.mask is not None:
        mask = read_beside(settings.mask, settings, open_things, background="black")
        if clip is not None:
            check_mask(mask, (clip.width, clip.height), len(clip))
    return Area.of(mask, settings)


def read_control(
    settings: Settings, clip: Clip | None, open_things: contextlib.ExitStack
) -> Clip | None:
    """What a ControlNet follows, where it is not drawn of the source."""
    if settings.control_image is None:
        return None
    image = read_beside(settings.control_image, settings, open_things)
    if clip is not None:
        check_control(image, (clip.width, clip.height), len(clip))
    return image


def check_additions(settings: Settings) -> None:
    """InputError where a ControlNet or an IP-Adapter is missing that what is given is for."""
    if settings.ip_adapter_image is not None and settings.ip_adapter is None:
        raise InputError("ip_adapter_image is read by an IP-Adapter; give one with ip_adapter")
    if settings.ip_adapter is not None:
        read_ip_adapter(settings.ip_adapter)
        find_encoder(settings.ip_adapter, settings.image_encoder)
    if settings.is_controlled and settings.controlnet is None:
        name = "control" if settings.control_image is None else "control_image"
        raise InputError(f"{name} is followed by a ControlNet; give one with controlnet")


def read_beside(
    path: str, settings: ReadSettings, open_things: contextlib.ExitStack, **changes: object
) -> Clip:
    """A clip that goes with a source, read as that is, so that frame belongs to frame.

    changes: what it is read otherwise by.
    """
    beside = read_clip(path, **changes)
    if len(beside) > 1:
        beside.close()
        chosen = settings.part(ReadSettings) | {"frame_rate": None} | changes
        beside = read_clip(path, **chosen)
    open_things.callback(beside.close)
    return beside


def _callback(
    pipeline: PnPVideoPipeline,
    function: Callable[..., Mapping[str, Tensor] | None] | None,
    options: PnPOptions,
) -> StepCallback | None:
    if function is None:
        return None
    pipeline._guidance_scale = options.guidance_scale
    return StepCallback(pipeline=pipeline, function=function, names=("latents",))


def storage_of(settings: MachineSettings, folder: Path) -> Storage:
    """Where the trajectory is kept. folder: of the results, for a file."""
    place, precision = settings.trajectory_place, settings.trajectory_precision
    return Storage(place=place, precision=precision, folder=folder)


def load_pipeline(settings: ModelSettings, device: torch.device | None = None) -> PnPVideoPipeline:
    """The model of some settings where it is to work. device: as `choose_device` gives it."""
    device = device or choose_device(settings)
    dtype = getattr(torch, settings.dtype) if settings.dtype else default_dtype(device)
    pipeline = PnPVideoPipeline.from_pretrained(
        settings.model,
        torch_dtype=dtype,
        loras=settings.loras,
        embeddings=settings.embeddings,
        config=settings.config_folder,
        controlnet=settings.controlnet,
        prediction_type=settings.prediction_type,
    )
    if isinstance(settings, AdapterSettings) and settings.ip_adapter is not None:
        pipeline.load_ip_adapter(settings.ip_adapter, image_encoder_folder=settings.image_encoder)
        pipeline.set_ip_adapter_scale(settings.ip_adapter_scale)
    with told_memory(device):
        if settings.offload:
            pipeline.enable_model_cpu_offload(device=device)
        else:
            pipeline.to(device)
    return pipeline


def choose_device(settings: ModelSettings) -> torch.device:
    """The device that settings name, or the best one. InputError where it is not there."""
    device = default_device()
    if settings.device is not None:
        try:
            device = torch.device(settings.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError):
            raise InputError(
                f"device is {settings.device!r}, which is not there; give cuda, cuda:1, mps or "
                "cpu, or leave it out"
            ) from None
    if settings.offload and device.type == "cpu":
        raise InputError("offload is for a GPU, and this run is on the CPU; leave it out")
    return device


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


@contextlib.contextmanager
def told_memory(device: torch.device) -> Iterator[None]:
    """A RunError in one line where the memory is not enough."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"the memory of {device} is not enough, even for one frame at a time; give a "
            "smaller --size"
        ) from None
