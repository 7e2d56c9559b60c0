"""Measurements as CSV and as Markdown tables of means."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from pnpvideo.evaluation.summary import markdown

Row = dict[str, float | str]


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write one line for each row; all rows have the same names."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def mean(values: Iterable[float]) -> float:
    """Return the mean of all values that are numbers; NaN if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan


def table_of_means(rows: Sequence[Row], groups: Sequence[str], formats: Mapping[str, str]) -> str:
    """Return a Markdown table of means, by the values of `groups`. formats: a format by column.

    With several groups, the last one also gets a line "all".
    """
    lines: list[tuple[str, ...]] = []

    def add(names: tuple[str, ...], members: Sequence[Row]) -> None:
        means = {name: mean(float(row[name]) for row in members) for name in formats}
        cells = [
            "" if math.isnan(means[name]) else format(means[name], how)
            for name, how in formats.items()
        ]
        lines.append((*names, *cells))

    *outer, inner = groups
    for heads in dict.fromkeys(tuple(str(row[name]) for name in outer) for row in rows):
        mine = [row for row in rows if tuple(str(row[name]) for name in outer) == heads]
        for value in dict.fromkeys(str(row[inner]) for row in mine):
            add((*heads, value), [row for row in mine if str(row[inner]) == value])
        if outer:
            add((*heads, "all"), mine)
    return markdown((*groups, *formats), lines, words=len(groups))


def report(rows: Sequence[Row], table: str, folder: Path, name: str = "results") -> None:
    """Print the table, and write it as NAME.md and the rows as NAME.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(rows, folder / f"{name}.csv")
    (folder / f"{name}.md").write_text(table)
    print(f"\n{table}")
