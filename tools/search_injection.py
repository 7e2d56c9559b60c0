"""Search where and how long to inject for a model, on held-out scenes: structure or attributes.

    python -m tools.search_injection --count 6 --steps 20 --out results/search

From the model's own `pnp.json` on, one choice after another is varied while the others stay; the
best of it is kept. Structure is the mean of the objects' overlap (IoU) and of their shapes kept;
attributes the mean accuracy of style, colour, material, light and ground. Writes search.csv with
every setting tried, best ones marked as Pareto, and pnp.json with the best sum.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pnpvideo.load_model import load_model
from tools.evaluate_scenes import Setting, evaluate_scenes
from tools.evaluation_pool import Row, write_csv

TASKS = ("sketch", "rough drawing", "cartoon", "colour", "ground", "light")
"""Those that keep the shapes, so that one measure of structure holds for all."""
ATTRIBUTES = ("style", "colour", "material", "light", "ground")
OPTIONS: dict[str, tuple[Any, ...]] = {
    "tau_f": (0.3, 0.5, 0.8, 1.0),
    "noise_share": (0.0, 0.1, 0.3, 0.6, 1.0),
    "tau_a": (0.2, 0.5, 0.8, 1.0),
    "guidance_scale": (2.0, 3.0, 4.5, 7.5),
}
LAYERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "features": (
        ("up_blocks.1.resnets.1",),
        ("up_blocks.2.resnets.1",),
        ("up_blocks.1.resnets.1", "up_blocks.2.resnets.1"),
        ("up_blocks.2.resnets.0", "up_blocks.2.resnets.1"),
        ("up_blocks.2.resnets.1", "up_blocks.3.resnets.0"),
    ),
    "attentions": (
        ("up_blocks.1.attentions.1", "up_blocks.2", "up_blocks.3"),
        ("up_blocks.2", "up_blocks.3"),
        ("up_blocks.3",),
        ("up_blocks.1", "up_blocks.2"),
    ),
}


def score(model: str, setting: Setting, arguments: argparse.Namespace) -> Row:
    """Structure and attributes of a setting, 0 to 1 each."""
    rows = [
        result.row()
        for result in evaluate_scenes(
            model,
            count=arguments.count,
            steps=arguments.steps,
            tasks=TASKS,
            methods=("pnp",),
            setting=setting,
            processes=arguments.processes,
        )
    ]
    structure = fmean((row["iou"] + row["shape"]) / 2 for row in rows)
    attributes = fmean(row[name] for row in rows for name in ATTRIBUTES)
    return {
        "structure": structure,
        "attributes": attributes,
        "sum": structure + attributes,
        "psnr": fmean(row["psnr"] for row in rows),
        "options": json.dumps(setting.options),
        "layers": json.dumps(setting.layers),
    }


def mark_best(rows: Sequence[Row]) -> None:
    """Add "pareto": no other setting is better in one of the two and as good in the other."""
    for row in rows:
        mine = (row["structure"], row["attributes"])
        others = [(other["structure"], other["attributes"]) for other in rows]
        row["pareto"] = not any(
            other != mine and other[0] >= mine[0] and other[1] >= mine[1] for other in others
        )


def search(arguments: argparse.Namespace) -> tuple[Setting, list[Row]]:
    """The best setting found, and all that were tried."""
    loaded = load_model(arguments.model)
    best = Setting(options=dict(loaded.options), layers=dict(loaded.layers))
    tried = [score(arguments.model, best, arguments)]
    top = tried[0]["sum"]
    for kind, choices in (("options", OPTIONS), ("layers", LAYERS)):
        for name, values in choices.items():
            start = best
            for value in values:
                given = {"options": start.options, "layers": start.layers}
                if given[kind].get(name) in (value, list(value) if kind == "layers" else value):
                    continue
                given[kind] = {**given[kind], name: value}
                setting = Setting(**given)
                tried.append(score(arguments.model, setting, arguments))
                row = tried[-1]
                print(f"{row['structure']:.3f} {row['attributes']:.3f} {name} = {value}")
                if row["sum"] > top:
                    top, best = row["sum"], setting
    mark_best(tried)
    return best, tried


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="embedded")
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
