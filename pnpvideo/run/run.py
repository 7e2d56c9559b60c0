"""One run, from file to file, with a model that is loaded for it or was loaded before."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from pnpvideo.catalogue.ask_model import texts_of, warn_of_unknown
from pnpvideo.catalogue.known_words import KnownWords
from pnpvideo.catalogue.unknown_words import check_named
from pnpvideo.clips.clip import Clip, Frames
from pnpvideo.errors import InputError
from pnpvideo.files.atomic_output import claimed, folder_above
from pnpvideo.models.model import Model
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import Settings
from pnpvideo.options.settings_file import write_settings
from pnpvideo.pixels.photo import looks_like_photo
from pnpvideo.pixels.resize import psnr_of
from pnpvideo.run.mask_picture import write_mask
from pnpvideo.run.opening import (
    Inputs,
    Loaded,
    check_additions,
    choose_device,
    known_words,
    memory_errors_in_one_line,
    model_of,
    open_model,
    read_inputs,
    storage_of,
)
from pnpvideo.run.outputs import Outputs, plan_outputs, write_compare, write_result
from pnpvideo.run.plan_text import plan_text
from pnpvideo.sampling.guidance import Guidance
from pnpvideo.sampling.steps import OnPrediction
from pnpvideo.stages.callbacks import QUIET, Bars, Callbacks, GuidedStep, bars_of
from pnpvideo.stages.cost import RunCost, cost_of
from pnpvideo.stages.edit import EditResult, OpenEdit
from pnpvideo.stages.latents import decode
from pnpvideo.stages.request import Edit, seeded
from pnpvideo.stages.source import Source
from pnpvideo.storage.job_folder import JobFolder

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """The accuracy with which sampling reproduces the source: PSNR in dB, higher is closer.

    Attributes:
        reconstruction: Of the frames sampled back from z_T.
        autoencoder: Of frames that are only encoded and decoded, the most that any inversion can
            reach.
    """

    reconstruction: float
    autoencoder: float


@dataclass(frozen=True, kw_only=True)
class Translation:
    """The files that a run wrote.

    Attributes:
        outputs: One for each prompt.
        compares: The same, source beside result.
        mask: A picture of the mask that `mask_from_prompt` found, or None.
        settings: All settings of the run, which repeat it.
        inversion: How well sampling reproduces the source, if `check_inversion` asks for that.
        frames: The number of frames of each result.
        size: The (width, height) of each result.
        source_size: That of the source; None if the model made it.
        seconds: The time that the run took.
    """

    outputs: tuple[Path, ...]
    compares: tuple[Path, ...]
    mask: Path | None
    settings: Path
    inversion: Inversion | None
    frames: int
    size: tuple[int, int]
    source_size: tuple[int, int] | None
    seconds: float


AfterStep = Callable[[int, float, Tensor], None]
"""Called after each step of sampling: step, timestep, latents (prompts, pieces, c, h, w)."""


def translate(
    source: str | Path | None = None,
    prompt: str | list[str] | tuple[str, ...] = (),
    *,
    pipeline: Loaded | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    **settings: object,
) -> Translation:
    """Translate a clip, a frame sequence or an image to what a prompt says.

    Args:
        source: A video, an image, a folder or a pattern of images (see `read_clip`). None if
            `guidance_prompt` lets the model make the source.
        prompt: What the result shows: one text, or several for several results.
        pipeline: A loaded pipeline that serves many runs, used as and where it is; the settings of
            the model are then those that it was loaded with. By default it is loaded for this run.
        overwrite: Replace results that exist.
        quiet: Show no progress bars.
        settings: Any other option of `Settings`, such as `output` or `steps`.

    Returns:
        The files that were written.

    Raises:
        InputError: If something that was given cannot be used. Nothing is written then.
        RunError: If the work fails.
    """
    values = {"source": source, "prompt": prompt} | settings
    return run(Settings.of(values), pipeline, overwrite=overwrite, quiet=quiet)


def run(
    settings: Settings,
    pipeline: Loaded | None = None,
    *,
    overwrite: bool = False,
    quiet: bool = False,
    after_inversion: Callable[[Source], None] | None = None,
    after_step: AfterStep | None = None,
    on_prediction: OnPrediction | None = None,
    on_written: Callable[[Path], None] = lambda path: None,
    on_cost: Callable[[RunCost], None] = lambda cost: None,
    bars: Bars | None = None,
    job: Path | None = None,
) -> Translation:
    """Make one run, and write its full settings beside the result as NAME.yaml.

    pipeline: a loaded pipeline or `Model` that serves many runs, used as and where it is: the
        settings of the model are then those that it was loaded with (see `load_pipeline`).
    overwrite: replace results that exist. quiet: show no bars. bars: the kind of progress bar, by
        default one for people.
    after_inversion: called once with the inverted source, which the model may have generated.
    on_prediction: called at each step with the clean latents that the network expects.
    on_written: called with each file that is written. on_cost: called with what the run takes, once
        that is known.
    job: a job folder of the caller's, in place of that of the settings.
    Raises InputError for what the user gave, RunError for what failed.
    """
    began = time.monotonic()
    with contextlib.ExitStack() as open_things:
        # 1. Check everything that costs nothing before anything that costs time
        device = choose_device(settings) if pipeline is None else model_of(pipeline).device
        inputs = read_inputs(settings, open_things)
        clip = inputs.clip
        known = known_words(settings, pipeline, settings.guidance_prompt)
        check_named(settings.mask_from_prompt, known)
        if pipeline is None:
            check_additions(settings)
        outputs = plan_outputs(settings, clip, overwrite)
        _claim(outputs, open_things)
        kept = settings.job if job is None else job
        folder = None if kept is None else open_things.enter_context(JobFolder(kept))
        warn_of_unknown(texts_of(settings), known)
        _warn_of_photo(clip, known)
        # 2. Load the model
        model = open_model(settings, device) if pipeline is None else model_of(pipeline)
        options = _options_of(settings, model)
        on_cost(cost_of(options, len(settings.prompt), generated=clip is None))
        _log.debug("%s on %s in %s", settings.model, device, model.dtype)
        callbacks = Callbacks(
            bars=bars_of(bars, quiet=quiet),
            after_inversion=after_inversion or (lambda source: None),
            after_step=None if after_step is None else _passing_on(after_step),
            on_prediction=on_prediction,
        )
        with memory_errors_in_one_line(device):
            # 3. Read, invert, denoise
            place = folder_above(Path(outputs.output))
            request = _request(settings, options, inputs, place, folder)
            opened = open_things.enter_context(OpenEdit(model, request, callbacks))
            _log.info("%s", plan_text(settings, options, opened.source, clip))
            result = opened.sample()
            # 4. Decode and write
            inversion = _write(opened, result, clip, outputs, settings, overwrite, on_written)
        resolved = options.plain() | {"output": outputs.output}
        write_settings(settings, outputs.record, resolved, overwrite=overwrite)
    return Translation(
        outputs=tuple(map(Path, outputs.results)),
        compares=tuple(map(Path, outputs.compares)),
        mask=None if outputs.mask is None else Path(outputs.mask),
        settings=outputs.record,
        inversion=inversion,
        source_size=(clip.width, clip.height) if clip else None,
        frames=result.source.frame_count,
        size=(clip.width, clip.height) if clip and settings.original_size else result.source.size,
        seconds=time.monotonic() - began,
    )


def run_span(settings: Settings, pipeline: Loaded, job: Path, *, number: int, count: int) -> None:
    """Invert and sample one of `count` spans of a source, and keep that in a job folder.

    number: of the span, from 0; there may be fewer, as they end at scene cuts. When all are there,
    `join_spans` makes a job folder of them, with which a run has nothing left to do but to write.
    """
    model = model_of(pipeline)
    with contextlib.ExitStack() as open_things:
        inputs = read_inputs(settings, open_things)
        options = settings.resolve(model.defaults)
        with memory_errors_in_one_line(model.device):
            folder = open_things.enter_context(JobFolder(job, keep_state=True))
            request = _request(settings, options, inputs, job, folder)
            opened = open_things.enter_context(OpenEdit(model, request, QUIET))
            spans = opened.spans(count)
            if number < len(spans):
                opened.sample(span=spans[number])


def _options_of(settings: Settings, model: Model) -> PnPOptions:
    """Return the options of a run. InputError for settings that they rule out; logs one that has
    no effect.
    """
    options = settings.resolve(model.defaults)
    if settings.check_inversion and not options.inverts:
        raise InputError(
            f"with start_from {options.start_from} and method {options.method} there is no "
            "inversion to check; leave out check_inversion"
        )
    if ignored := settings.ignored(options):
        _log.warning("%s", ignored)
    return options


def _warn_of_photo(clip: Clip | None, known: KnownWords | None) -> None:
    """Log a warning about a source that looks like a photo, if the model says it needs others."""
    if clip is None or known is None or known.reads_photos:
        return
    if looks_like_photo(clip.read(0, 1)[0]):
        _log.warning(
            "the source looks like a photo, and the model %s: %s", known.draws, known.otherwise
        )


def _claim(outputs: Outputs, open_things: contextlib.ExitStack) -> None:
    """Keep other runs from writing the same files until a context ends."""
    for path in outputs.files:
        open_things.enter_context(claimed(Path(path)))


def _request(
    settings: Settings,
    options: PnPOptions,
    inputs: Inputs,
    results: Path,
    job: JobFolder | None,
) -> Edit:
    """Return the edit of a run. results: the folder for a trajectory that is kept in a file."""
    return Edit(
        source=inputs.clip,
        guidance_prompt=settings.guidance_prompt,
        inversion_prompt=settings.inversion_prompt,
        size=settings.size,
        area=inputs.area,
        control_image=inputs.control_image,
        prompt=settings.prompt,
        negative_prompt=settings.negative_prompt or None,
        picture=inputs.picture,
        options=options,
        generators=seeded(settings.seed),
        batch_size=settings.batch_size,
        storage=storage_of(settings, results),
        job=job,
    )


def _passing_on(after_step: AfterStep) -> GuidedStep:
    """Return a callback that calls another one and changes nothing."""

    def called(step: int, timestep: float, latents: Tensor, guidance: Guidance) -> Tensor:
        after_step(step, timestep, latents)
        return latents

    return called


def _write(
    opened: OpenEdit,
    result: EditResult,
    clip: Clip | None,
    outputs: Outputs,
    settings: Settings,
    overwrite: bool,
    on_written: Callable[[Path], None],
) -> Inversion | None:
    """Decode and write each result and its comparison. Returns the check of the inversion."""
    if outputs.mask is not None and result.mask is not None:
        write_mask(result.mask, result.source, clip, outputs.mask, overwrite)
        on_written(Path(outputs.mask))
        _log.info(
            "%s shows the mask: look at it, as the model cannot tell for certain whether the "
            "source shows what is named",
            outputs.mask,
        )
    for index, path in enumerate(outputs.results):
        mask = result.mask.frames.batches(settings.batch_size) if result.mask else None
        frames, area = result.frames(index), opened.request.area
        write_result(frames, path, clip, settings, overwrite, mask, area)
        on_written(Path(path))
        _log.debug("%s is written", path)
    if clip is None:
        return None
    for path, compare in zip(outputs.results, outputs.compares, strict=False):
        write_compare(path, compare, clip, settings, overwrite)
        on_written(Path(compare))
    return check_inversion(opened) if settings.check_inversion else None


def check_inversion(opened: OpenEdit) -> Inversion:
    """Sample the inverted source of an edit back, and compare its frames."""
    source, size = opened.source, opened.request.batch_size

    def psnr(latents: Tensor) -> float:
        decoded = decode(opened.model, latents, size, source.held)
        pairs = zip(_singly(source.frames(size)), _singly(decoded), strict=True)
        errors = [np.square(a.astype(np.float32) - b).mean(axis=(1, 2, 3)) for a, b in pairs]
        return psnr_of(float(np.concatenate(errors).mean()), peak=255)

    return Inversion(
        reconstruction=psnr(opened.reconstruct()), autoencoder=psnr(source.trajectory.clean)
    )


def _singly(batches: Iterable[Frames]) -> Iterator[Frames]:
    """Return frames one at a time, each (1, height, width, 3)."""
    return (frame[None] for batch in batches for frame in batch)
