"""The summary of an evaluation: every value, means by edit type, and versions and networks."""

from __future__ import annotations

import csv
import io
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from pnpvideo.evaluation.columns import Column
from pnpvideo.evaluation.common_shift import CommonShift, Estimate, common_shift
from pnpvideo.evaluation.flexit import fid_scores
from pnpvideo.evaluation.items import Benchmark, Item, LeftOutEntry
from pnpvideo.evaluation.load_networks import NONE, not_given
from pnpvideo.evaluation.networks import Networks
from pnpvideo.evaluation.pixel_shift import Evidence
from pnpvideo.evaluation.run_folder import MeasuredItem, RunFolder
from pnpvideo.options.evaluation import EvaluationSettings

ALL = "all"
"""The name for all edit types together."""
_LIBRARIES = ("pnpvideo", "torch", "torchmetrics", "transformers", "opencv-python", "scikit-image")


@dataclass(frozen=True, kw_only=True)
class Row:
    """The values of one method's result of one item by column; None if it has no value."""

    method: str
    item: Item
    values: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Mean:
    """Means of a method by column over an edit type. without: the count of items without values."""

    method: str
    edit_type: str
    items: int
    values: Mapping[str, float | None]
    without: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The summary of an evaluation.

    columns: the measures that could be made. missing: by title, why others could not be made.
    left_out: entries and results without values. scores: of a method as a whole. shifts: the pixel
    shift that all results of a method share. made_with: versions and networks.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    means: tuple[Mean, ...]
    left_out: tuple[LeftOutEntry, ...]
    missing: Mapping[str, str]
    scores: Mapping[str, Mapping[str, float]]
    shifts: Mapping[str, CommonShift]
    made_with: Mapping[str, object]

    @property
    def table(self) -> str:
        """Return the means in Markdown, in their usual units, with the number of items without."""
        lines = [
            f"{mean.method}, {mean.edit_type}: "
            + ", ".join(
                f"{self._title(name)} of {mean.items - missing_count}"
                for name, missing_count in without_value
            )
            for mean in self.means
            if (
                without_value := [
                    (name, missing_count)
                    for name, missing_count in mean.without.items()
                    if missing_count
                ]
            )
        ]
        notes = [
            "",
            "Means over fewer items, as others have no value:",
            "",
            *(f"- {x}" for x in lines),
        ]
        shifts = ["", *(f"- {line}" for line in self.shift_lines), ""] if self.shifts else []
        return self._means + "\n".join([*(notes if lines else []), *shifts])

    @property
    def shift_lines(self) -> list[str]:
        """Return the shared displacement of each method's results in words."""
        return [
            f"{method}: {shift.count} results together are shifted {_interval_text(shift.x)} "
            f"pixels to the right and {_interval_text(shift.y)} down, enlarged by "
            f"{_interval_text(shift.zoom, 100)} %"
            for method, shift in self.shifts.items()
        ]

    def _title(self, name: str) -> str:
        return next(column.title for column in self.columns if column.name == name)

    @property
    def _means(self) -> str:
        return markdown(
            ("method", "edit type", "items", *(column.heading for column in self.columns)),
            [
                (
                    mean.method,
                    mean.edit_type,
                    str(mean.items),
                    *(value_text(mean.values[column.name], column) for column in self.columns),
                )
                for mean in self.means
            ],
            words=2,
        )


def value_text(value: float | None, column: Column) -> str:
    """Return a value in its usual unit, with the usual number of digits."""
    if value is None:
        return ""
    scaled = value * column.factor
    return f"{scaled:.2f}" if column.factor > 1 or abs(scaled) >= 2 else f"{scaled:.4f}"


def _interval_text(estimate: Estimate, factor: float = 1) -> str:
    value, low, high = (factor * x for x in (estimate.value, estimate.low, estimate.high))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def summarise(
    settings: EvaluationSettings,
    benchmark: Benchmark,
    methods: Sequence[str],
    columns: Sequence[Column],
    folder: RunFolder,
    networks: Networks,
    statistics: Mapping[str, Tensor] | None,
    *,
    mean_over_types: bool,
) -> Summary:
    """Summarise all measured results. mean_over_types: whether to add means over all edit types."""
    scored = [item for item in benchmark.items if item.scored]
    rows: list[Row] = []
    left_out = list(benchmark.left_out)
    scores: dict[str, Mapping[str, float]] = {}
    shifts: dict[str, CommonShift] = {}
    measured_names: set[str] = set()
    used: dict[str, set[str]] = {}
    fingerprints: dict[str, str] = {}
    for method in methods:
        measured = {item.id: folder.read_measured(method, item.id) for item in scored}
        for item in scored:
            item_measures = measured[item.id]
            if item_measures.reason is not None:
                left_out.append(
                    LeftOutEntry(id=f"{method}: {item.id}", reason=item_measures.reason)
                )
                continue
            rows.append(Row(method=method, item=item, values=item_measures.values))
            measured_names |= {
                name for name, value in item_measures.values.items() if value is not None
            }
            fingerprints |= item_measures.fingerprints
            for name, network in item_measures.made_with.items():
                used.setdefault(name, set()).add(network)
        if (shift := _common_shift(measured.values())) is not None:
            shifts[method] = shift
        if statistics is not None:
            scores[method] = _fid(scored, measured, statistics)
    measured_columns = tuple(column for column in columns if column.name in measured_names)
    return Summary(
        title=f"{settings.benchmark}: {', '.join(methods)}",
        columns=measured_columns,
        rows=tuple(rows),
        means=tuple(_means(rows, measured_columns, mean_over_types=mean_over_types)),
        left_out=tuple(left_out),
        missing={
            column.title: _why_missing(column, networks)
            for column in columns
            if column not in measured_columns
        },
        scores=scores,
        shifts=shifts,
        made_with=_made_with(settings, used, fingerprints),
    )


def _means(rows: Sequence[Row], columns: Sequence[Column], *, mean_over_types: bool) -> list[Mean]:
    means = []
    for method in dict.fromkeys(row.method for row in rows):
        method_rows = [row for row in rows if row.method == method]
        types = sorted({row.item.edit_type for row in method_rows})
        groups = {
            name: [row for row in method_rows if row.item.edit_type == name] for name in types
        }
        if (len(groups) > 1 and mean_over_types) or "" in groups:
            groups.pop("", None)
            groups[ALL] = method_rows
        for name, members in groups.items():
            values_by_column = {
                column.name: [
                    v for row in members if (v := row.values.get(column.name)) is not None
                ]
                for column in columns
            }
            means.append(
                Mean(
                    method=method,
                    edit_type=name,
                    items=len(members),
                    values={name: fmean(v) if v else None for name, v in values_by_column.items()},
                    without={name: len(members) - len(v) for name, v in values_by_column.items()},
                )
            )
    return means


def _common_shift(measured: Iterable[MeasuredItem]) -> CommonShift | None:
    shifts = [item.shift for item in measured if item.shift is not None]
    return common_shift([Evidence.of_values(values) for values in shifts])


def _fid(
    items: Sequence[Item], measured: Mapping[str, MeasuredItem], statistics: Mapping[str, Tensor]
) -> dict[str, float]:
    features = {
        item.id: torch.tensor(features_of_item)
        for item in items
        if (features_of_item := measured[item.id].features) is not None
    }
    labels = {item.id: item.label for item in items}
    return fid_scores(features, labels, statistics) if features else {}


def _why_missing(column: Column, networks: Networks) -> str:
    for role in column.roles:
        if role in networks.missing:
            return networks.missing[role]
        if (place := networks.places[role]) in (None, NONE):
            return not_given(role, place)
    return "no item gives it a value"


def _made_with(
    settings: EvaluationSettings,
    used: Mapping[str, set[str]],
    fingerprints: Mapping[str, str],
) -> dict[str, object]:
    chosen = {name for name in settings.model_fields_set if getattr(settings, name) is not None}
    return {
        "settings": settings.model_dump(mode="json", include=chosen),
        "structure_mode": settings.structure,
        "networks": {name: sorted(by) for name, by in used.items()},
        "fingerprints": dict(fingerprints),
        "versions": {name: version(name) for name in _LIBRARIES},
        "python": platform.python_version(),
    }


def write_tables(summary: Summary, folder: RunFolder) -> tuple[Path, ...]:
    """Write results.csv (a row a result), means.csv (in usual units), means.md and summary.json."""
    heads = ["method", "id", "type", "prompt", *(column.name for column in summary.columns)]
    results = [
        [row.method, row.item.id, row.item.edit_type, row.item.prompt]
        + ["" if (v := row.values.get(c.name)) is None else repr(v) for c in summary.columns]
        for row in summary.rows
    ]
    mean_heads = ["method", "type", "items", *(column.heading for column in summary.columns)]
    means = [
        [mean.method, mean.edit_type, mean.items]
        + [value_text(mean.values[column.name], column) for column in summary.columns]
        for mean in summary.means
    ]
    paths = [
        folder.path / name for name in ("results.csv", "means.csv", "means.md", "summary.json")
    ]
    folder.write_text(paths[0], _csv(heads, results))
    folder.write_text(paths[1], _csv(mean_heads, means))
    folder.write_text(paths[2], summary.table)
    folder.write_json(paths[3], _as_json(summary))
    return tuple(paths)


def _as_json(summary: Summary) -> dict[str, object]:
    return {
        "title": summary.title,
        "made_with": summary.made_with,
        "columns": {
            column.name: {"heading": column.heading, "factor": column.factor, "best": column.best}
            for column in summary.columns
        },
        "missing": dict(summary.missing),
        "means": [mean.__dict__ for mean in summary.means],
        "scores": summary.scores,
        "shifts": {method: asdict(shift) for method, shift in summary.shifts.items()},
        "left_out": [entry.__dict__ for entry in summary.left_out],
        "counts": Counter(row.method for row in summary.rows),
        "results": [
            {"method": row.method, "id": row.item.id, "values": row.values} for row in summary.rows
        ],
    }


def _csv(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(heads)
    writer.writerows(rows)
    return text.getvalue()


def markdown(heads: Sequence[str], lines: Iterable[Sequence[str]], *, words: int = 0) -> str:
    """Return a Markdown table; all but the first `words` columns are right-aligned numbers."""
    rule = ["---"] * words + ["--:"] * (len(heads) - words)
    rows = [f"| {' | '.join(cells)} |" for cells in (heads, *lines)]
    return "\n".join([rows[0], f"|{'|'.join(rule)}|", *rows[1:]]) + "\n"
