"""What a batch would do, and how long that would take."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from pnpvideo.batch.job import Job
from pnpvideo.batch.run_batch import Plan
from pnpvideo.batch.start import worker_count
from pnpvideo.clips.clip import frame_count_text
from pnpvideo.models.model import Model
from pnpvideo.options.batch import BatchOptions
from pnpvideo.options.method import MethodOptions
from pnpvideo.options.settings import Settings
from pnpvideo.run.opening import open_model
from pnpvideo.run.run import run

_STEPS = 4
"""Of the trial: the shares of the steps that inject features are about those of a whole run."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds of a frame: a step of inversion, a step of sampling for each prompt, the rest."""

    inversion: float
    step: float
    rest: float


def tell_plan(plan: Plan, options: BatchOptions) -> Iterator[str]:
    """Lines for a person; makes some steps of the first job that is not done, and keeps nothing."""
    todo = set(plan.todo)
    for number, job in enumerate(plan.jobs):
        state = "to do" if number in todo else "done "
        frames = frame_count_text(job.frames)
        source = job.settings.source or job.settings.guidance_prompt
        yield f"{state}  {job.name}  ({frames} of {source}: {' | '.join(job.settings.prompt)})"
    jobs = [plan.jobs[number] for number in plan.todo]
    yield f"{len(jobs)} of {len(plan.jobs)} jobs to do"
    if not jobs:
        return
    model = open_model(jobs[0].settings)
    pace = measure(jobs[0], model)
    seconds = estimate(jobs, model, pace)
    count = min(worker_count(options), plan.most)
    workers = "1 worker" if count == 1 else f"{count} workers, each as fast as one alone"
    yield f"about {tqdm.format_interval(seconds / count)} with {workers}"


def measure(job: Job, model: Model) -> Pace:
    """The pace of a few frames of a job at a few steps, all that is read and written included."""
    kept = {name: value for name, value in job.settings.plain().items() if value is not None}
    open_ones = MethodOptions.model_fields.keys() - job.settings.model_fields_set
    values = {name: value for name, value in kept.items() if name not in open_ones}
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
        began = time.monotonic()
        run(trial, model, quiet=True, after_step=stamp)
        ended = time.monotonic()
    step = (at[-1] - at[0]) / (_STEPS - 1)
    passes = _STEPS * trial.resolve(model.defaults).inversion_iterations
    # What comes before the first step is nearly all inversion.
    inversion = max(0.0, at[0] - step - began) / passes
    return Pace(
        inversion=inversion / frames,
        step=step / frames / len(trial.prompt),
        rest=(ended - at[-1]) / frames,
    )


def estimate(jobs: list[Job], model: Model, pace: Pace) -> float:
    """Seconds that jobs take one after the other, each inversion made once."""
    seconds, inverted = 0.0, set[str]()
    for job in jobs:
        options = job.settings.resolve(model.defaults)
        prompts = len(job.settings.prompt)
        if job.inversion not in inverted:
            passes = options.inversion_step_count * options.inversion_iterations
            seconds += job.frames * passes * pace.inversion
            inverted |= {job.inversion} if job.inversion else set()
        seconds += job.frames * prompts * (options.steps * pace.step + pace.rest)
    return seconds
