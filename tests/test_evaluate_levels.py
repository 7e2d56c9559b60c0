"""Rows of the table of feature levels: what is kept, what is missing, and what it says."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tools.train.evaluate_levels import append, differences, missing, read_rows, table, ways


def rows(way: str, values: list[float], **more: Any) -> list[dict[str, Any]]:
    return [{"way": way, "task": "a", "index": i, "iou": v, **more} for i, v in enumerate(values)]


def test_ways_have_names_of_their_own() -> None:
    chosen = ways((1.0, 0.4), ("inverted", "noise"), (None, "fast"))
    names = [way.name for way in chosen]
    assert names[:2] == ["inverted, own", "inverted, 0.4"]
    assert names[-1] == "noise, 0.4, fast"
    assert len(set(names)) == len(chosen) == 8


@pytest.mark.parametrize("end", ["", '{"way": "x", "ta'])
def test_a_stopped_evaluation_goes_on_with_what_is_missing(end: str, tmp_path: Path) -> None:
    path = tmp_path / "kept" / "scenes.jsonl"
    assert read_rows(path) == []
    first, second, third = ways((1.0, 0.4, 0.2), ("inverted",), (None,))
    append(rows(first.name, [0.5]), path)
    with path.open("a") as file:
        file.write(end)  # The process was killed while it wrote.
    assert missing([first, second, third], read_rows(path), "a", 0) == [second, third]
    assert missing([first], read_rows(path), "b", 0) == [first]
    append(rows(second.name, [0.6]), path)
    assert [json.loads(line)["iou"] for line in path.read_text().splitlines()] == [0.5, 0.6]


def test_differences_are_between_results_of_the_same_example() -> None:
    base, other = rows("own", [0.5, 0.7, math.nan, 0.1]), rows("0.4", [0.6, 0.7, 0.9])
    assert differences(other, base, "iou") == pytest.approx([0.1, 0.0])
    text = table([*base, *other], {"iou": ".2f"})
    # The means are of 3 and 3 numbers; the error is that of 0.1 and 0.
    assert "0.43" in text
    assert "0.73" in text
    assert "+0.05 ± 0.05" in text
