"""Results as tables: means by group, without what is not a number; CSV that reads back."""

import csv
import math
from pathlib import Path

import pytest

from tools.tables import mean, report, table_of_means

ROWS = [
    {"method": "ours", "task": "a", "iou": 0.5, "class": 1.0},
    {"method": "ours", "task": "a", "iou": 0.7, "class": math.nan},
    {"method": "ours", "task": "b", "iou": 0.9, "class": math.nan},
    {"method": "other", "task": "a", "iou": 0.1, "class": 0.0},
]


def test_means_leave_out_what_is_not_a_number() -> None:
    assert mean([1.0, math.nan, 2.0]) == 1.5
    assert math.isnan(mean([math.nan]))
    assert math.isnan(mean([]))


def test_a_table_has_means_by_group_and_of_all() -> None:
    table = table_of_means(ROWS, ("method", "task"), {"iou": ".2f", "class": ".1f"})
    assert table.splitlines() == [
        "| method | task | iou | class |",
        "|---|---|--:|--:|",
        "| ours | a | 0.60 | 1.0 |",
        "| ours | b | 0.90 |  |",
        "| ours | all | 0.70 | 1.0 |",
        "| other | a | 0.10 | 0.0 |",
        "| other | all | 0.10 | 0.0 |",
    ]
    assert table_of_means(ROWS, ("method",), {"iou": ".1f"}).splitlines()[2:] == [
        "| ours | 0.7 |",
        "| other | 0.1 |",
    ]


def test_a_report_is_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(ROWS, "the table\n", tmp_path / "new", "scenes")
    assert "the table" in capsys.readouterr().out
    assert (tmp_path / "new" / "scenes.md").read_text() == "the table\n"
    with (tmp_path / "new" / "scenes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["task"] for row in rows] == ["a", "a", "b", "a"]
    assert [float(row["iou"]) for row in rows] == [0.5, 0.7, 0.9, 0.1]
