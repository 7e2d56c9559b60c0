"""Plot of methods by the structure that they keep and the text that they follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pnpvideo.grid.draw_grid import draw_plot
from pnpvideo.grid.grid import pareto_front
from tools.tables import Row
from tools.train.evaluate_scenes import standing


@dataclass(frozen=True, kw_only=True)
class Point:
    """A method's means. structure: the loss, 0 to 1. text: how well it is followed, 0 to 1."""

    name: str
    structure: float
    text: float
    best: bool


def points_of(rows: Sequence[Row]) -> list[Point]:
    """Return the points of all methods except the truth, with the Pareto front marked."""
    names = [name for name in dict.fromkeys(str(row["method"]) for row in rows) if name != "truth"]
    stands = [standing([row for row in rows if row["method"] == name]) for name in names]
    lost, followed = [1 - kept for kept, _ in stands], [text for _, text in stands]
    return [
        Point(name=name, structure=structure, text=text, best=best)
        for name, structure, text, best in zip(
            names, lost, followed, pareto_front(lost, followed), strict=True
        )
    ]


def plot_methods(rows: Sequence[Row], path: Path) -> None:
    """Write the plot if there is more than one method to compare."""
    points = points_of(rows)
    if len(points) > 1:
        structure = "structure lost: 1 - mean of overlap and classes kept"
        text = "mean of style, colours, materials, light and ground"
        Image.fromarray(draw_plot(points, structure, text)).save(path)
