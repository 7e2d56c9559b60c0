"""Measure at which noise level the source should be read, and what sampling should start from.

    python -m tools.train.evaluate_levels scenes --count 25 --out results/levels
    python -m tools.train.evaluate_levels clips --count 20 --out results/levels
    python -m tools.train.evaluate_levels report --out results/levels

`scenes` are held-out examples of each task, `clips` held-out moving scenes. Each result is appended
to scenes.jsonl or clips.jsonl as soon as it is measured, and what is there is not made again, so
the same command goes on where it was stopped; a scene has results of all ways before the next one
begins. `report` writes scenes.md and clips.md: the mean of each way and, with its standard error,
its difference from the first way over the same scenes. Seconds are processor time of one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import stdev
from typing import Any

import numpy as np
import torch
from torch import Generator

from pnpvideo.clips.as_clip import as_clip
from pnpvideo.evaluation.summary import markdown
from pnpvideo.options.method import Preset
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.stages.edit import OpenEdit
from tools.tables import Row, mean
from tools.train import evaluate_clips
from tools.train.appearance import Pixels
from tools.train.artwork import SMALL
from tools.train.captions import full_caption
from tools.train.scenes import render
from tools.train.tasks import DRAWINGS, EDITS, GOAL, World, make_example, open_world
from tools.train.translators import side_of

LEVELS = (1.0, 0.8, 0.6, 0.4, 0.2)
"""Feature levels; at 1 the source is read at the target's own level in every step."""
STARTS = ("inverted", "noised", "noise")
FORMATS = {
    "seconds": ".2f",
    **dict.fromkeys(("class", "iou"), ".3f"),
    "psnr": ".2f",
    **dict.fromkeys(("ssim", "style", "colour", "material", "natural", "ground", "light"), ".3f"),
}
"""Columns of the table of scenes; more is better in all but the first."""
CLIP_FORMATS = {"seconds": ".2f", "warp": ".2f", "flicker": ".2f", **FORMATS}
"""Columns of the table of clips: seconds of a frame; warp error times 1000; flicker in percent."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to translate: the model's options with these changes, at a preset."""

    options: Mapping[str, Any] = field(default_factory=dict)
    preset: Preset | None = None

    @property
    def name(self) -> str:
        level = self.options.get("feature_level", 1.0)
        words = [self.options.get("start_from", "inverted"), "own" if level == 1 else f"{level:g}"]
        return ", ".join([*words, *([self.preset] if self.preset else [])])


def ways(
    levels: Sequence[float], starts: Sequence[str], presets: Sequence[Preset | None]
) -> list[Way]:
    """Return all combinations; the first is what the others are compared with."""
    return [
        Way(options={"start_from": start, "feature_level": level}, preset=preset)
        for preset in presets
        for start in starts
        for level in levels
    ]


class Ways:
    """A source, (frames, size, size, 3) in [0, 1], translated in several ways.

    Ways that invert the source in the same number of steps share the inversion, and each has its
    time added.
    """

    def __init__(self, pipeline: PnPVideoPipeline, frames: Pixels) -> None:
        self.pipeline, self.frames = pipeline, frames
        self._inverted: dict[int, tuple[OpenEdit, float]] = {}

    def translate(self, prompts: Sequence[str], way: Way, seed: int) -> tuple[Pixels, float]:
        """Return frames (prompts, frames, size, size, 3), and the seconds they took in all."""
        options = self.pipeline.model_options.at(way.preset).override(way.options)
        given: dict[str, Any] = {"video": as_clip(self.frames)}
        inversion = 0.0
        if options.inverts:
            opened, inversion = self._invert(options.steps)
            given = {"trajectory": opened.source.trajectory}
        started = time.process_time()
        frames, _ = self.pipeline(
            list(prompts),
            options=options,
            generator=Generator().manual_seed(seed),
            output_type="np",
            return_dict=False,
            **given,
        )
        seconds = inversion + time.process_time() - started
        return np.asarray(frames, np.float32), seconds

    def _invert(self, steps: int) -> tuple[OpenEdit, float]:
        if steps not in self._inverted:
            started = time.process_time()
            opened = evaluate_clips.invert(self.pipeline, as_clip(self.frames), steps)
            self._inverted[steps] = opened, time.process_time() - started
        return self._inverted[steps]


def scene_rows(
    pipeline: PnPVideoPipeline, world: World, tasks: Sequence[str], index: int, chosen: list[Way]
) -> Iterator[Row]:
    """Yield the measures of example `index` of tasks with the same source, in each way.

    seconds: only if there is one task, as several share work.
    """
    examples = [make_example(world, task, index) for task in tasks]
    first, size = examples[0], side_of(pipeline)
    source = Ways(pipeline, render(first.source, first.style, world.artwork, size=size)[None])
    for way in chosen:
        frames, seconds = source.translate([one.prompt for one in examples], way, seed=index)
        for example, picture in zip(examples, frames[:, 0], strict=True):
            yield {
                "way": way.name,
                "task": example.task,
                "index": index,
                "seconds": seconds if len(examples) == 1 else math.nan,
                **world.judge.measure(picture, example.target, GOAL).row(),
            }


def clip_rows(
    pipeline: PnPVideoPipeline, world: World, index: int, count: int, chosen: list[Way]
) -> Iterator[Row]:
    """Yield the measures of held-out clip `index` with `count` frames, in each way."""
    made = evaluate_clips.make_source(world, index, count, side_of(pipeline))
    source, prompt = Ways(pipeline, made.frames), full_caption(made.scene, GOAL)
    for way in chosen:
        frames, seconds = source.translate([prompt], way, seed=index)
        yield {
            "way": way.name,
            "task": made.style,
            "index": index,
            "seconds": seconds / count,
            **evaluate_clips.measure_clip(frames[0], made, world),
        }


def read_rows(path: Path) -> list[Row]:
    """Return the rows that a file holds, without a last line that was not written to its end."""
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def append(rows: Sequence[Row], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = read_rows(path)
    if path.is_file() and not path.read_text().endswith("\n"):
        path.write_text("".join(json.dumps(row) + "\n" for row in whole))
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def missing(chosen: Sequence[Way], rows: Sequence[Row], task: str, index: int) -> list[Way]:
    """Return the ways of which an example has no row yet."""
    done = {row["way"] for row in rows if (row["task"], row["index"]) == (task, index)}
    return [way for way in chosen if way.name not in done]


def run_scenes(arguments: argparse.Namespace) -> None:
    pipeline, world, chosen = _opened(arguments)
    path = arguments.out / "scenes.jsonl"
    rows = read_rows(path)
    for index in range(arguments.count):
        for tasks in (*((task,) for task in DRAWINGS), EDITS):
            left = missing(chosen, rows, tasks[0], index)
            append(list(scene_rows(pipeline, world, tasks, index, left)), path)


def run_clips(arguments: argparse.Namespace) -> None:
    pipeline, world, chosen = _opened(arguments)
    path = arguments.out / "clips.jsonl"
    rows = read_rows(path)
    for index in range(arguments.count):
        left = missing(chosen, rows, evaluate_clips.STYLES[index % 2], index)
        append(list(clip_rows(pipeline, world, index, arguments.frames, left)), path)


def _opened(arguments: argparse.Namespace) -> tuple[PnPVideoPipeline, World, list[Way]]:
    torch.set_num_threads(1)
    pipeline = PnPVideoPipeline.from_pretrained(arguments.model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    chosen = ways(arguments.levels, arguments.starts, arguments.presets)
    return pipeline, open_world(arguments.artwork), chosen


def differences(rows: Sequence[Row], base: Sequence[Row], name: str) -> list[float]:
    """Return how much more a measure is than in rows of the same examples, where both have it."""
    before = {(row["task"], row["index"]): float(row[name]) for row in base}
    both = [
        float(row[name]) - before[key]
        for row in rows
        if (key := (row["task"], row["index"])) in before
    ]
    return [value for value in both if not math.isnan(value)]


def table(rows: Sequence[Row], formats: Mapping[str, str]) -> str:
    """Return a Markdown table of the ways: means, and differences from the first with errors."""
    names = list(dict.fromkeys(str(row["way"]) for row in rows))
    first = [row for row in rows if row["way"] == names[0]]
    lines = []
    for name in names:
        mine = [row for row in rows if row["way"] == name]
        cells = [format(mean(float(row[c]) for row in mine), how) for c, how in formats.items()]
        lines.append((name, str(len(mine)), *cells))
        if name != names[0]:
            lines.append(("", "", *(_difference(mine, first, c, f) for c, f in formats.items())))
    return markdown(("start, level", "examples", *formats), lines, words=1)


def _difference(rows: Sequence[Row], base: Sequence[Row], name: str, how: str) -> str:
    values = differences(rows, base, name)
    if len(values) < 2:
        return ""
    error = stdev(values) / math.sqrt(len(values))
    return f"{mean(values):+{how}} ± {error:{how}}"


def run_report(arguments: argparse.Namespace) -> None:
    for name, formats in (("scenes", FORMATS), ("clips", CLIP_FORMATS)):
        if rows := read_rows(arguments.out / f"{name}.jsonl"):
            text = table(rows, formats)
            (arguments.out / f"{name}.md").write_text(text)
            print(f"\n{text}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    scenes = commands.add_parser("scenes", help="single images")
    scenes.add_argument("--count", type=int, default=25, help="examples of each task")
    scenes.set_defaults(run=run_scenes)
    clips = commands.add_parser("clips", help="moving scenes")
    clips.add_argument("--count", type=int, default=20, help="clips")
    clips.add_argument("--frames", type=int, default=24, help="frames of a clip")
    clips.set_defaults(run=run_clips)
    for command in (scenes, clips):
        command.add_argument("--levels", nargs="+", type=float, default=LEVELS)
        command.add_argument("--starts", nargs="+", choices=STARTS, default=STARTS)
        command.add_argument(
            "--presets", nargs="+", choices=("best", "balanced", "fast"), default=(None,)
        )
        command.add_argument("--model", default="embedded")
        command.add_argument("--artwork", type=Path, default=SMALL, help="folder of things")
    report = commands.add_parser("report", help="the tables of what is measured so far")
    report.set_defaults(run=run_report)
    for command in (scenes, clips, report):
        command.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
