"""Translate held-out scenes or things with a known true translation, and measure the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from tools.tables import Row, mean
from tools.train.appearance import Pixels
from tools.train.captions import full_caption
from tools.train.measure import ATTRIBUTES, Measures
from tools.train.pool import run_jobs
from tools.train.scenes import render
from tools.train.tasks import DRAWINGS, GOAL, TASKS, Example, make_example, make_thing, open_world
from tools.train.translators import METHODS, Setting, Translator, side_of

THINGS = ("line drawing", "cartoon")
"""Styles of drawings of held-out things."""
FORMATS = {
    "psnr": ".1f",
    "ssim": ".3f",
    "style": ".3f",
    **dict.fromkeys(ATTRIBUTES, ".3f"),
    "iou": ".3f",
}
"""Columns of the table: PSNR in dB, the others from 0 to 1, more is better."""

_KEPT = ("iou", "class")
_FOLLOWED = ("style", "natural", "colour", "material", "light", "ground")


def standing(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the scores of structure and text, 0 to 1.

    Structure is the mean of overlap and kept classes; text is the mean of all other attributes.
    """
    kept, followed = (
        mean(float(row[name]) for row in rows for name in names) for names in (_KEPT, _FOLLOWED)
    )
    return kept, followed


@dataclass(frozen=True, kw_only=True)
class Result:
    """A method's result of an example: pictures (size, size, 3) in [0, 1], and its measures.

    setting: the number of the setting among those of the evaluation.
    """

    example: Example
    method: str
    setting: int
    source: Pixels
    picture: Pixels
    truth: Pixels
    measures: Measures

    def row(self) -> Row:
        return {
            "method": self.method,
            "task": self.example.task,
            "index": self.example.index,
            **self.measures.row(),
            "prompt": self.example.prompt,
        }


@dataclass(frozen=True, kw_only=True)
class Job:
    """Example `index` of tasks that have the same source, for several methods and settings."""

    artwork: Path
    tasks: Sequence[str]
    index: int
    held_out: bool
    methods: Sequence[str]
    steps: int | None
    settings: Sequence[Setting]


def work(pipeline: PnPVideoPipeline, job: Job) -> list[Result]:
    world, size = open_world(job.artwork), side_of(pipeline)
    make = make_thing if job.held_out else make_example
    examples = [make(world, task, job.index) for task in job.tasks]
    first = examples[0]
    source = render(first.source, first.style, world.artwork, size=size)
    truths = [render(example.target, GOAL, world.artwork, size=size) for example in examples]
    translator = Translator(pipeline, source, steps=job.steps)
    prompts = [example.prompt for example in examples]
    results = []
    for number, setting in enumerate(job.settings):
        negative = full_caption(first.source, first.style) if setting.negated else None
        for method in job.methods:
            pictures = truths
            if method != "truth":
                with setting.used_by(pipeline):
                    pictures = translator.translate(
                        prompts, method, seed=job.index, negative=negative
                    )
            results += [
                Result(
                    example=example,
                    method=method,
                    setting=number,
                    source=source,
                    picture=picture,
                    truth=truth,
                    measures=world.judge.measure(picture, example.target, GOAL),
                )
                for example, picture, truth in zip(examples, pictures, truths, strict=True)
            ]
    return results


def evaluate_scenes(
    model: str,
    artwork: Path,
    *,
    count: int,
    steps: int | None,
    tasks: Sequence[str] = TASKS,
    methods: Sequence[str] = METHODS,
    settings: Sequence[Setting] = (Setting(),),
    processes: int | None = None,
    held_out: bool = False,
) -> list[Result]:
    """Return the results of all methods and settings on `count` held-out examples of each task.

    held_out: use held-out things by themselves; the tasks must be DRAWINGS.
    """
    # All tasks that edit a 3D render edit the same one.
    groups: list[Sequence[str]] = [(task,) for task in tasks if task in DRAWINGS]
    groups.append([task for task in tasks if task not in DRAWINGS])
    jobs = [
        Job(
            artwork=artwork,
            tasks=group,
            index=index,
            held_out=held_out,
            methods=methods,
            steps=steps,
            settings=settings,
        )
        for index in range(count)
        for group in groups
        if group
    ]
    return [result for results in run_jobs(work, jobs, model, processes) for result in results]
