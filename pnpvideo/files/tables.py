"""Tables as people and programs write them: CSV, TSV, JSON lines and parquet, all read alike."""

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pnpvideo.errors import InputError, needs
from pnpvideo.files.read_text import JsonObject, parse_json, read_text

_LINES = (".jsonl", ".ndjson")
TABLE_SUFFIXES = (".csv", ".tsv", *_LINES, ".parquet")

# Excel writes this line above a table, and which mark it takes depends on the country.
_MARK_LINE = re.compile(r'"?sep=(.)"?[\s,;"]*', re.IGNORECASE)
_MARKS = (",", ";", "\t", "|")
# A column of row numbers, as pandas writes it into CSV, reads it again and writes it into parquet.
_ROW_NUMBERS = re.compile(r"(unnamed:_\d+|_index_level_\d+_)?")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table. place: where it is, such as "jobs.csv line 2".

    values: by column, without those that are empty or null. A CSV file has only texts.
    """

    place: str
    values: Mapping[str, object]


CheckNames = Callable[[Sequence[str], str], None]
"""Checks the names of columns: raises InputError. Called with them and with their place."""


def read_table(path: Path, check: CheckNames = lambda names, place: None) -> Iterator[Row]:
    """Yield the rows of a table. The names of columns are in lower case, with underscores.

    check: called with the columns of a table, or with those of each object in JSON lines.
    InputError if it is not a table, with the line that is wrong.
    """
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise InputError(f"{path} is not a table; give {', '.join(TABLE_SUFFIXES)}")
    if suffix == ".parquet":
        return _read_parquet(path, check)
    if suffix in _LINES:
        return _read_lines(path, check)
    return _read_cells(path, check, default="\t" if suffix == ".tsv" else ",")


def text_of(value: object) -> str:
    """Return a value as a person would write it: 1 for 1.0, as programs write whole numbers."""
    is_whole = isinstance(value, float) and value.is_integer()
    return f"{value:.0f}" if is_whole else str(value)


def number_as_text(value: object) -> object:
    """Return a number as a text, 1 for 1.0, and other values as they are."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return text_of(value) if is_number else value


def _column_name(text: str) -> str:
    """Return target_prompt for "Target Prompt", "TARGET-PROMPT" and the like."""
    return re.sub(r"[\s_-]+", "_", text.strip("\ufeff \t\r\n").lower())


def _read_cells(path: Path, check: CheckNames, *, default: str) -> Iterator[Row]:
    text = read_text(path)
    first, _, rest = text.partition("\n")
    skipped = 0
    if marked := _MARK_LINE.fullmatch(first):
        mark, text, skipped = marked[1], rest, 1
    else:
        mark = _mark_of(text, default)
    rows = csv.reader(
        io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True, strict=True
    )
    names: list[str] | None = None
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            place = f"{path.name} line {rows.line_num + skipped}"
            raise InputError(f"{place} is not CSV: {error}") from None
        if row is None:
            return
        cells = [cell.strip() for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        if not cells:
            continue
        place = f"{path.name} line {rows.line_num + skipped}"
        if names is None:
            names = _names_of(cells, place, check)
        else:
            yield Row(place=place, values=_values_of(names, cells, place))


def _mark_of(text: str, default: str) -> str:
    """Return the mark between the cells of a table: the most frequent one in its header."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    bare = re.sub(r'"[^"]*"', "", header)
    return max((default, *_MARKS), key=bare.count)


def _values_of(names: Sequence[str], cells: Sequence[str], place: str) -> dict[str, object]:
    if len(cells) > len(names):
        raise InputError(
            f"{place} has {len(cells)} cells for {len(names)} columns; put a text with commas "
            "in quotes"
        )
    values: dict[str, object] = {}
    for number, (name, cell) in enumerate(zip(names, cells, strict=False)):
        if not _ROW_NUMBERS.fullmatch(name):
            values |= {name: cell} if cell else {}
        elif cell and (number or not cell.isdecimal()):
            raise InputError(f"{place} has {cell[:40]!r} in a column without a name; name it")
    return values


def _read_lines(path: Path, check: CheckNames) -> Iterator[Row]:
    text = read_text(path)
    if text.lstrip().startswith("["):  # A whole list, as pandas writes it without lines=True.
        found = parse_json(text, path.name)
        entries = found if isinstance(found, list) else [found]
        placed = ((f"{path.name} entry {n}", entry) for n, entry in enumerate(entries, 1))
    else:
        # Other marks of a line's end can be in a JSON text.
        lines = enumerate(re.split(r"\r\n|\r|\n", text), 1)
        numbered = ((f"{path.name} line {n}", line) for n, line in lines if line.strip())
        placed = ((place, parse_json(line, place)) for place, line in numbered)
    for place, entry in placed:
        if not isinstance(entry, JsonObject):
            raise InputError(f'{place} is not a JSON object; write {{"source": ..., ...}}')
        if entry.repeated:
            raise InputError(f"{place} has {entry.repeated[0]} twice; give it once")
        yield row_of(entry, place, check)


def row_of(entry: Mapping[str, object], place: str, check: CheckNames) -> Row:
    """Return an entry of a list as a row. InputError if two names are the same."""
    return Row(place=place, values=_given(_names_of(list(entry), place, check), entry.values()))


def _read_parquet(path: Path, check: CheckNames) -> Iterator[Row]:
    with needs("eval", str(path)):  # It is large, too.
        import pyarrow
        import pyarrow.parquet
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = _names_of(file.schema_arrow.names, path.name, check)
            number = 0
            for batch in file.iter_batches(batch_size=16):
                for entry in batch.to_pylist():
                    number += 1
                    place = f"{path.name} row {number}"
                    yield Row(place=place, values=_given(names, entry.values()))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a parquet file, or is damaged: {error}") from None


def _names_of(given: Sequence[str], place: str, check: CheckNames) -> list[str]:
    """Return the names of columns. InputError if two are the same, or the check fails."""
    names = [_column_name(name) for name in given]
    real = [name for name in names if not _ROW_NUMBERS.fullmatch(name)]
    if len(set(real)) < len(real):
        twice = next(name for name in real if real.count(name) > 1)
        raise InputError(f"{place}: there are two columns {twice}")
    check(real, place)
    return names


def _given(names: Sequence[str], values: Iterable[object]) -> dict[str, object]:
    """Return the values by column, without null, which programs write for an empty cell."""
    return {
        name: value
        for name, value in zip(names, values, strict=True)
        if not _ROW_NUMBERS.fullmatch(name) and not _is_null(value)
    }


def _is_null(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
