"""Measure the method where the truth is known: in the world of `tools/scenes.py`.

    python -m tools.evaluate scenes --count 200 --out results/scenes

Writes results.csv (one line for each picture), table.md and sheet.png (source, result, truth).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.evaluate_scenes import FORMATS, METHODS, TASKS, evaluate_scenes, make_sheet
from tools.evaluation_pool import Row, make_table, write_csv


def run_scenes(arguments: argparse.Namespace) -> None:
    results = evaluate_scenes(
        arguments.model,
        count=arguments.count,
        steps=arguments.steps,
        tasks=arguments.tasks,
        methods=arguments.methods,
        processes=arguments.processes,
    )
    rows = [result.row() for result in results]
    report(rows, make_table(rows, ("method", "task"), FORMATS), arguments.out)
    make_sheet(results, arguments.out / "sheet.png")


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
    scenes.add_argument("--model", default="embedded")
    scenes.add_argument("--count", type=int, default=200, help="examples of each task")
    scenes.add_argument("--steps", type=int, default=50)
    scenes.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    scenes.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    scenes.add_argument("--processes", type=int, help="one for each CPU core by default")
    scenes.add_argument("--out", type=Path, required=True, help="folder of the results")
    scenes.set_defaults(run=run_scenes)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
