"""Search for the best layers and durations of injection for a model, on held-out scenes.

    python -m tools.train.search_injection --artwork WORK/artwork --count 6 --steps 20 --out results

Starting from the model's `pnp.json`, one option after another is varied while the others stay, and
its best value is kept. Structure is the mean of the objects' overlap (IoU) and of kept classes;
attributes are the mean accuracy of style, natural and named colours, material, light and ground.
Writes search.csv with every setting tried, the Pareto front marked, and pnp.json with the best sum.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pnpvideo.loading.load import load_model
from tools.tables import Row, mean, write_csv
from tools.train.artwork import SMALL
from tools.train.evaluate_scenes import evaluate_scenes, standing
from tools.train.tasks import DRAWINGS
from tools.train.translators import Setting

TASKS = (*DRAWINGS, "colour", "material", "ground", "light")
"""Tasks that keep the things, so that one measure of structure applies to all."""
OPTIONS: dict[str, tuple[Any, ...]] = {
    "guidance_scale": (1.0, 1.5, 2.0, 3.0),
    "noise_share": (0.0, 0.1, 0.3),
    "tau_f": (0.8, 1.0),
    "tau_a": (0.5, 0.8, 1.0),
}
LAYERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "features": (
        ("up_blocks.1.resnets.1",),
        ("up_blocks.1.resnets.1", "up_blocks.2.resnets.1"),
        ("up_blocks.2.resnets.1", "up_blocks.3.resnets.0"),
        ("up_blocks.1.resnets.1", "up_blocks.2.resnets.1", "up_blocks.3.resnets.0"),
    ),
    "attentions": (
        ("up_blocks.1.attentions.1", "up_blocks.2", "up_blocks.3"),
        ("up_blocks.2", "up_blocks.3"),
        ("up_blocks.3",),
    ),
}
NEGATIVES: tuple[dict[str, Any], ...] = (
    {"negative_schedule": "constant", "negative_alpha": 0.75},
    {"negative_schedule": "linear", "negative_alpha": 1.0},
    {"negative_schedule": "exp", "negative_alpha": 1.0},
)
"""Schedules for the strength of the source's caption as the negative prompt (section 4.3)."""


def evaluate(settings: Sequence[Setting], arguments: argparse.Namespace) -> list[Row]:
    """Return structure and attributes of each setting, 0 to 1."""
    results = evaluate_scenes(
        arguments.model,
        arguments.artwork,
        count=arguments.count,
        steps=arguments.steps,
        tasks=TASKS,
        methods=("pnp",),
        settings=settings,
        processes=arguments.processes,
    )
    tried: list[Row] = []
    for number, setting in enumerate(settings):
        rows = [result.row() for result in results if result.setting == number]
        structure, attributes = standing(rows)
        tried.append(
            {
                "structure": structure,
                "attributes": attributes,
                "sum": structure + attributes,
                "ssim": mean(float(row["ssim"]) for row in rows),
                "psnr": mean(float(row["psnr"]) for row in rows),
                "options": json.dumps(setting.options),
                "layers": json.dumps(dict(setting.layers)),
                "negated": setting.negated,
            }
        )
        print(f"{structure:.3f} {attributes:.3f} {setting}", flush=True)
    return tried


def mark_best(rows: Sequence[Row]) -> None:
    """Add "pareto": whether no other setting is better in one value and as good in the other."""
    for row in rows:
        mine = _goals(row)
        others = [_goals(other) for other in rows]
        row["pareto"] = not any(
            other != mine and other[0] >= mine[0] and other[1] >= mine[1] for other in others
        )


def _goals(row: Row) -> tuple[float, float]:
    return float(row["structure"]), float(row["attributes"])


def variants(kind: str, name: str, values: Sequence[Any], base: Setting) -> list[Setting]:
    """Return `base` with each other value of one option."""
    old = getattr(base, kind)
    changes: list[dict[str, Any]] = [
        {kind: {**old, name: value}} for value in values if value != old.get(name)
    ]
    return [replace(base, **change) for change in changes]


def search(arguments: argparse.Namespace) -> tuple[Setting, list[Row]]:
    """Return the best setting, and rows of all that were tried."""
    own = load_model(arguments.model).recommended
    options = own.options.model_dump(exclude_unset=True)
    best = Setting(options=options, layers=asdict(own.layers) if own.layers else {})
    tried = evaluate([best], arguments)
    top = tried[0]["sum"]

    def keep_best(settings: list[Setting]) -> None:
        nonlocal best, top
        rows = evaluate(settings, arguments)
        tried.extend(rows)
        for setting, row in zip(settings, rows, strict=True):
            if float(row["sum"]) > float(top):
                top, best = row["sum"], setting

    for kind, choices in (("options", OPTIONS), ("layers", LAYERS)):
        for name, values in choices.items():
            keep_best(variants(kind, name, values, best))
    negatives = [{**best.options, **values} for values in NEGATIVES]
    keep_best([replace(best, options=options, negated=True) for options in negatives])
    mark_best(tried)
    return best, tried


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--artwork", type=Path, default=SMALL, help="folder of things")
    parser.add_argument("--count", type=int, default=20, help="examples of each task")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--processes", type=int, help="one for each CPU core by default")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    best, tried = search(arguments)
    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(tried, folder / "search.csv")
    own = {"options": best.options, "layers": best.layers}
    (folder / "pnp.json").write_text(json.dumps(own, indent=2))
    print(json.dumps(own, indent=2))


if __name__ == "__main__":
    main()
