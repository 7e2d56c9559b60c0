"""List what a batch would do, and estimate how long that would take."""

import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from pnpvideo.batch.job import Job, broken_files
from pnpvideo.batch.run_batch import Plan, warn_of_words
from pnpvideo.batch.start import worker_count
from pnpvideo.catalogue.ask_model import warned_before
from pnpvideo.clips.clip import frame_count_text
from pnpvideo.models.model import Model
from pnpvideo.options.batch import BatchOptions
from pnpvideo.options.method import MethodOptions
from pnpvideo.options.printed import cut
from pnpvideo.options.settings import Settings
from pnpvideo.run.opening import open_model
from pnpvideo.run.run import run
from pnpvideo.stages.cost import RunCost, cost_of

_log = logging.getLogger(__name__)

_STEPS = 4
"""Steps of the trial run: enough that about the same share of them injects as in a whole run."""

_COLUMNS = 60
"""Columns for the prompts of a job, which stand in a line with its files."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The seconds that a frame takes.

    source: for each pass through the network that inverts or generates the source. sampling: for
    each pass of sampling. result: for each result, to decode and write it.
    """

    source: float
    sampling: float
    result: float


def describe_plan(plan: Plan, options: BatchOptions) -> Iterator[str]:
    """Yield lines to print. To estimate the time, makes some steps of a job, and keeps nothing."""
    todo = set(plan.todo)
    warn_of_words(plan)
    for number, job in enumerate(plan.jobs):
        state = "to do" if number in todo else "done "
        frames = frame_count_text(job.frames)
        source = job.shown_source or cut(str(job.settings.guidance_prompt), _COLUMNS)
        prompts = cut(" | ".join(job.settings.prompt), _COLUMNS)
        yield f"{state}  {job.shown}  ({frames} of {source}: {prompts})"
    state = "skip  " if options.skip_broken else "broken"
    for error in broken_files(plan.skipped):
        yield f"{state} {error}"
    jobs = [plan.jobs[number] for number in plan.todo]
    end = _skipped_text(len(plan.skipped)) if options.skip_broken else ""
    yield f"{len(jobs)} of {len(plan.jobs) + len(plan.skipped)} jobs to do{end}"
    if not jobs:
        return
    model = open_model(jobs[0].settings)
    pace = measure(jobs[0], model)
    seconds = estimate(jobs, model, pace)
    count = min(worker_count(options), plan.most)
    workers = "1 worker" if count == 1 else f"{count} workers, each as fast as one alone"
    yield f"about {tqdm.format_interval(seconds / count)} with {workers}"


def _skipped_text(count: int) -> str:
    return f"; {count} broken {'one is' if count == 1 else 'ones are'} skipped" if count else ""


def measure(job: Job, model: Model) -> Pace:
    """Return the pace of a short run: a few frames of a job, with a few steps."""
    kept = {name: value for name, value in job.settings.plain().items() if value is not None}
    open_ones = MethodOptions.model_fields.keys() - job.settings.model_fields_set
    values = {name: value for name, value in kept.items() if name not in open_ones}
    if not job.settings.resolve(model.defaults).injects:
        values["strength"] = 1.0  # With less, some steps are left out, or all.
    frames = min(job.frames, job.settings.batch_size)
    at: list[float] = []

    def stamp(_step: int, _timestep: float, _latents: Tensor) -> None:
        at.append(time.monotonic())

    with tempfile.TemporaryDirectory() as folder:
        suffix = Path(job.settings.output or "").suffix
        trial = Settings.of(
            values
            | {"frames": frames, "steps": _STEPS, "inversion_steps": _STEPS, "preset": None}
            | {"output": f"{folder}/trial{suffix}"}
        )
        _log.info("a trial run, to estimate the time:")
        began = time.monotonic()
        with warned_before():
            run(trial, model, quiet=True, after_step=stamp)
        ended = time.monotonic()
    step = (at[-1] - at[0]) / (_STEPS - 1)
    cost = _cost(trial, model)
    # Nearly all of the time before the first step goes to the source.
    source = max(0.0, at[0] - step - began)
    return Pace(
        source=source / frames / max(cost.source, 1),
        sampling=step * _STEPS / frames / cost.sampling,
        result=(ended - at[-1]) / frames / len(trial.prompt),
    )


def estimate(jobs: list[Job], model: Model, pace: Pace) -> float:
    """Return the seconds that jobs take one after the other, with each inversion made once."""
    seconds, inverted = 0.0, set[str]()
    for job in jobs:
        cost = _cost(job.settings, model)
        if job.inversion not in inverted:
            seconds += job.frames * cost.source * pace.source
            inverted |= {job.inversion} if job.inversion else set()
        seconds += job.frames * cost.sampling * pace.sampling
        seconds += job.frames * len(job.settings.prompt) * pace.result
    return seconds


def _cost(settings: Settings, model: Model) -> RunCost:
    options = settings.resolve(model.defaults)
    return cost_of(options, len(settings.prompt), generated=settings.source is None)
