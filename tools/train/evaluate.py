"""Measure the method against the ground truth, in the world of `tools/train/scenes.py`.

    python -m tools.train.evaluate scenes --count 200 --out results/scenes
    python -m tools.train.evaluate things --count 60 --out results/things
    python -m tools.train.evaluate inversion --count 50 --out results/inversion
    python -m tools.train.evaluate clips --count 20 --out results/clips
    python -m tools.train.evaluate named --count 60 --out results/named
    python -m tools.train.evaluate masks --count 20 --out results/masks
    python -m tools.train.evaluate drawings --drawings samples/drawings --out results/drawings

`scenes` are of things that training saw, `things` of those it did not; `--artwork` is a folder that
`tools.train.get_artwork` made, by default the small part in the repository. Writes results.csv (one
line for each picture or clip), results.md (means) and a sheet.jpg of this method's results, and for
several methods methods.png, structure kept against text followed; `drawings` have no ground truth
and give only a sheet.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from tools.tables import Row, report, table_of_means
from tools.train import (
    evaluate_clips,
    evaluate_drawings,
    evaluate_inversion,
    evaluate_masks,
    evaluate_named,
    evaluate_scenes,
)
from tools.train.artwork import SMALL
from tools.train.by_style import Job, measure_styles
from tools.train.evaluate_scenes import Result
from tools.train.plot_methods import plot_methods
from tools.train.sheets import write_sheet
from tools.train.tasks import TASKS
from tools.train.translators import METHODS


def run_scenes(arguments: argparse.Namespace) -> None:
    results = evaluate_scenes.evaluate_scenes(
        arguments.model,
        arguments.artwork,
        count=arguments.count,
        steps=arguments.steps,
        tasks=arguments.tasks,
        methods=arguments.methods,
        processes=arguments.processes,
        held_out=arguments.held_out,
    )
    rows = [result.row() for result in results]
    table = table_of_means(rows, ("method", "task"), evaluate_scenes.FORMATS)
    report(rows, table, arguments.out)
    plot_methods(rows, arguments.out / "methods.png")
    shown = [result for result in results if result.method == "pnp"]
    if shown:
        write_sheet(
            [((one.source, one.picture, one.truth), one.example.prompt) for one in mixed(shown)],
            arguments.out / "sheet.jpg",
        )


def mixed(results: Sequence[Result], *, count: int = 24) -> list[Result]:
    """Return up to `count` results, not selected by quality.

    They are the first scene with the first task, the second scene with the second task, and so on.
    """
    tasks = list(dict.fromkeys(result.example.task for result in results))
    return [
        result
        for result in results
        if result.example.task == tasks[result.example.index % len(tasks)]
    ][:count]


def run_styles(
    work: Callable[[PnPVideoPipeline, Job], Row],
    formats: Mapping[str, str],
    arguments: argparse.Namespace,
) -> None:
    rows = measure_styles(
        work,
        arguments.model,
        arguments.artwork,
        count=arguments.count,
        steps=arguments.steps,
        processes=arguments.processes,
    )
    report(rows, table_of_means(rows, ("style",), formats), arguments.out)


def run_clips(arguments: argparse.Namespace) -> None:
    results = evaluate_clips.evaluate_clips(
        arguments.model,
        arguments.artwork,
        count=arguments.count,
        frames=arguments.frames,
        steps=arguments.steps,
        modes=arguments.modes,
        processes=arguments.processes,
    )
    rows = [result.row for result in results]
    report(rows, table_of_means(rows, ("mode",), evaluate_clips.FORMATS), arguments.out)
    evaluate_clips.make_sheet(results, arguments.artwork, arguments.out / "sheet.jpg")


def run_masks(arguments: argparse.Namespace) -> None:
    how = {"count": arguments.count, "processes": arguments.processes}
    model, artwork = arguments.model, arguments.artwork
    rows = evaluate_masks.evaluate_edits(model, artwork, steps=arguments.steps, **how)
    table = table_of_means(rows, ("method", "task"), evaluate_masks.FORMATS)
    report(rows, table, arguments.out)
    rows = evaluate_masks.evaluate_moving(model, artwork, frames=arguments.frames, **how)
    table = table_of_means(rows, ("style",), evaluate_masks.CARRIED)
    report(rows, table, arguments.out, "moving")


def run_named(arguments: argparse.Namespace) -> None:
    how = {"count": arguments.count, "processes": arguments.processes}
    rows = evaluate_named.evaluate_named(
        arguments.model, arguments.artwork, steps=arguments.steps, **how
    )
    report(rows, table_of_means(rows, ("names",), evaluate_named.FORMATS), arguments.out)


def run_drawings(arguments: argparse.Namespace) -> None:
    rows = evaluate_drawings.translate_drawings(
        arguments.model,
        arguments.drawings,
        steps=arguments.steps,
        processes=arguments.processes,
    )
    write_sheet(rows, arguments.out / "sheet.jpg")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    scenes = commands.add_parser("scenes", help="single images, by task and method")
    scenes.add_argument("--count", type=int, default=200, help="examples of each task")
    scenes.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    scenes.set_defaults(run=run_scenes, held_out=False)
    things = commands.add_parser("things", help="drawings of things that training never saw")
    things.add_argument(
        "--count",
        type=int,
        default=60,
        help="things; beyond their number they repeat in other places",
    )
    drawn = evaluate_scenes.THINGS
    things.add_argument("--tasks", nargs="+", choices=drawn, default=drawn)
    things.set_defaults(run=run_scenes, held_out=True)
    for command in (scenes, things):
        command.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    inversion = commands.add_parser("inversion", help="sources sampled back from their inversion")
    inversion.add_argument("--count", type=int, default=50, help="scenes, each in every style")
    inversion.set_defaults(
        run=partial(run_styles, evaluate_inversion.work, evaluate_inversion.FORMATS)
    )
    named = commands.add_parser("named", help="masks of things, found by their names")
    named.add_argument("--count", type=int, default=60, help="scenes")
    named.set_defaults(run=run_named)
    clips = commands.add_parser("clips", help="moving scenes, by way of temporal sharing")
    clips.add_argument("--count", type=int, default=20, help="clips")
    clips.add_argument("--frames", type=int, default=24, help="frames of a clip")
    modes = tuple(evaluate_clips.MODES)
    clips.add_argument("--modes", nargs="+", choices=modes, default=modes)
    clips.set_defaults(run=run_clips)
    masks = commands.add_parser("masks", help="edits of a part, and masks that move with a clip")
    masks.add_argument("--count", type=int, default=20, help="scenes, and clips")
    masks.add_argument("--frames", type=int, default=24, help="frames of a clip")
    masks.set_defaults(run=run_masks)
    drawings = commands.add_parser("drawings", help="drawings of your own, to look at")
    drawings.add_argument("--drawings", type=Path, required=True, help="folder with prompts.yaml")
    drawings.set_defaults(run=run_drawings)
    for command in (scenes, things, inversion, named, clips, masks, drawings):
        command.add_argument("--model", default="embedded")
        command.add_argument("--steps", type=int, help="the model's own by default")
        command.add_argument("--processes", type=int, help="one for each CPU core by default")
        command.add_argument("--out", type=Path, required=True, help="folder of the results")
        if command is not drawings:
            command.add_argument("--artwork", type=Path, default=SMALL, help="folder of things")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
