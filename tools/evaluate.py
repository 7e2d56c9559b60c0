"""Measure the method where the truth is known: in the world of `tools/scenes.py`.

    python -m tools.evaluate scenes --count 200 --out results/scenes
    python -m tools.evaluate inversion --count 50 --out results/inversion
    python -m tools.evaluate clips --count 20 --out results/clips

Writes results.csv (one line for each picture or clip), table.md and a sheet.png of what this method
made of scenes or clips.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tools import evaluate_clips, evaluate_inversion, evaluate_scenes
from tools.evaluation_pool import Row, make_table, write_csv


def run_scenes(arguments: argparse.Namespace) -> None:
    results = evaluate_scenes.evaluate_scenes(
        arguments.model,
        count=arguments.count,
        steps=arguments.steps,
        tasks=arguments.tasks,
        methods=arguments.methods,
        processes=arguments.processes,
    )
    rows = [result.row() for result in results]
    report(rows, make_table(rows, ("method", "task"), evaluate_scenes.FORMATS), arguments.out)
    if "pnp" in arguments.methods:
        evaluate_scenes.make_sheet(results, arguments.out / "sheet.png")


def run_inversion(arguments: argparse.Namespace) -> None:
    rows = evaluate_inversion.evaluate_inversion(
        arguments.model,
        count=arguments.count,
        steps=arguments.steps,
        processes=arguments.processes,
    )
    report(rows, make_table(rows, ("style",), evaluate_inversion.FORMATS), arguments.out)


def run_clips(arguments: argparse.Namespace) -> None:
    results = evaluate_clips.evaluate_clips(
        arguments.model,
        count=arguments.count,
        frames=arguments.frames,
        steps=arguments.steps,
        modes=arguments.modes,
        processes=arguments.processes,
    )
    rows = [result.row for result in results]
    report(rows, make_table(rows, ("mode",), evaluate_clips.FORMATS), arguments.out)
    evaluate_clips.make_sheet(results, arguments.out / "sheet.png")


def report(rows: list[Row], table: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(rows, folder / "results.csv")
    (folder / "table.md").write_text(table)
    print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    scenes = commands.add_parser("scenes", help="single images, by task and method")
    scenes.add_argument("--count", type=int, default=200, help="examples of each task")
    tasks, methods = evaluate_scenes.TASKS, evaluate_scenes.METHODS
    scenes.add_argument("--tasks", nargs="+", choices=tasks, default=tasks)
    scenes.add_argument("--methods", nargs="+", choices=methods, default=methods)
    scenes.set_defaults(run=run_scenes)
    inversion = commands.add_parser("inversion", help="sources sampled back from their inversion")
    inversion.add_argument("--count", type=int, default=50, help="scenes, each in every style")
    inversion.set_defaults(run=run_inversion)
    clips = commands.add_parser("clips", help="moving scenes, by way of temporal sharing")
    clips.add_argument("--count", type=int, default=20, help="clips")
    clips.add_argument("--frames", type=int, default=24, help="frames of a clip")
    modes = tuple(evaluate_clips.MODES)
    clips.add_argument("--modes", nargs="+", choices=modes, default=modes)
    clips.set_defaults(run=run_clips)
    for command in (scenes, inversion, clips):
        command.add_argument("--model", default="embedded")
        command.add_argument("--steps", type=int, default=50)
        command.add_argument("--processes", type=int, help="one for each CPU core by default")
        command.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
