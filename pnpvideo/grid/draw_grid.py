"""A grid's contact sheet, and its plot of structure distance against text similarity."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw

from pnpvideo.inside import draw
from pnpvideo.inside.draw import INK, MARK, PAPER, Picture, font, sheet
from pnpvideo.options.grid import Axes, GridCell

_SIZE = (900, 640)
_LEFT, _RIGHT, _TOP, _BOTTOM = 96, 40, 56, 72  # pixels around the plot
_TICKS = 5
_FAINT, _DOT = (222, 222, 228), (70, 110, 200)


class Result(Protocol):
    """A cell's result picture."""

    @property
    def cell(self) -> GridCell: ...

    @property
    def middle(self) -> Picture: ...


class Measured(Protocol):
    """A named point in the plot, of a cell or anything else."""

    @property
    def name(self) -> str: ...

    @property
    def structure(self) -> float: ...

    @property
    def text(self) -> float: ...

    @property
    def best(self) -> bool: ...


def draw_sheet(
    results: Sequence[Result],
    points: Sequence[Measured],
    source: Picture,
    axes: Axes,
    side: int,
) -> Picture:
    """Draw results with the last option across and the others down, each row after the source.

    points: of the same cells. Cells on the Pareto front have a frame. side: of a cell in pixels.
    """
    *down, across = axes
    by_name = {result.cell.name: (result, at) for result, at in zip(results, points, strict=True)}
    rows, names = [], []
    for values in product(*(axes[name] for name in down)):
        chosen = dict(zip(down, values, strict=True))
        row: list[draw.Cell | None] = [draw.Cell(picture=source)]
        for value in axes[across]:
            result, at = by_name[GridCell(options=chosen | {across: value}).name]
            caption = f"structure {1e3 * at.structure:.3g}, text {1e2 * at.text:.3g}"
            row.append(draw.Cell(picture=result.middle, caption=caption, marked=at.best))
        rows.append(row)
        names.append(" ".join(f"{name} = {value}" for name, value in chosen.items()))
    heads = ["source", *(f"{across} = {value}" for value in axes[across])]
    return sheet(rows, row_names=names, column_names=heads, side=side)


def draw_plot(
    points: Sequence[Measured], structure_name: str, text_name: str, *, joined: bool = True
) -> Picture:
    """Plot structure distance (less to the right) against text similarity (more upwards).

    joined: whether the best points are those of the Pareto front, which a line joins.
    """
    image = Image.new("RGB", _SIZE, PAPER)
    pen = ImageDraw.Draw(image)
    x_axis = _Axis([1e3 * p.structure for p in points], (_SIZE[0] - _RIGHT, _LEFT))
    y_axis = _Axis([1e2 * p.text for p in points], (_SIZE[1] - _BOTTOM, _TOP))
    for value in x_axis.ticks:
        x = x_axis.place(value)
        pen.line((x, _TOP, x, _SIZE[1] - _BOTTOM), _FAINT)
        pen.text((x, _SIZE[1] - _BOTTOM + 8), f"{value:g}", INK, font(), anchor="ma")
    for value in y_axis.ticks:
        y = y_axis.place(value)
        pen.line((_LEFT, y, _SIZE[0] - _RIGHT, y), _FAINT)
        pen.text((_LEFT - 8, y), f"{value:g}", INK, font(), anchor="rm")
    below = f"{structure_name}, x10^3 (to the right: more structure is kept)"
    pen.text(((_LEFT + _SIZE[0] - _RIGHT) / 2, _SIZE[1] - 12), below, INK, font(), anchor="md")
    above = f"{text_name}, x10^2 (upwards: the text is followed more)"
    pen.text((8, 8), above, INK, font(), anchor="la")

    places = [(x_axis.place(1e3 * p.structure), y_axis.place(1e2 * p.text)) for p in points]
    front = sorted(place for place, point in zip(places, points, strict=True) if point.best)
    if joined and len(front) > 1:
        note = "the line joins what nothing else beats in both"
        pen.text((8, 28), note, MARK, font(), anchor="la")
        pen.line(front, MARK, width=2)
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    order = sorted(zip(places, points, strict=True), key=lambda both: not both[1].best)
    for (x, y), point in order:
        colour, radius = (MARK, 6) if point.best else (_DOT, 4)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
        name = point.name.replace(",", ", ")
        box = _free(pen, name, x, y, taken)
        if box is not None:
            taken.append(box)
            pen.text(box[:2], name, INK if point.best else _DOT, font(12))
    return np.asarray(image)


def _free(
    pen: ImageDraw.ImageDraw,
    text: str,
    x: float,
    y: float,
    taken: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float, float, float] | None:
    """Return a box for a text beside a point that overlaps no other; None if there is no space."""
    width, height = pen.textlength(text, font(12)), 15.0
    for left, top in (
        (x + 9, y - 8),
        (x - 9 - width, y - 8),
        (x - width / 2, y - 23),
        (x - width / 2, y + 8),
    ):
        box = (left, top, left + width, top + height)
        inside = left >= 0 and left + width <= _SIZE[0]
        if inside and not any(
            box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken
        ):
            return box
    return None


class _Axis:
    """An axis that maps values to pixels. ends: the pixels of the lowest and the highest tick."""

    def __init__(self, values: Sequence[float], ends: tuple[float, float]) -> None:
        low, high = min(values), max(values)
        room = max(high - low, 1e-9 + abs(high) * 1e-3) / (_TICKS - 1)
        unit = 10.0 ** math.floor(math.log10(room))
        step = next(unit * n for n in (1, 2, 5, 10) if unit * n >= room)
        first, last = (
            math.floor(low / step),
            max(math.ceil(high / step), math.floor(low / step) + 1),
        )
        self.ticks = [n * step for n in range(first, last + 1)]
        self._ends = ends

    def place(self, value: float) -> float:
        share = (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])
        return self._ends[0] + share * (self._ends[1] - self._ends[0])
