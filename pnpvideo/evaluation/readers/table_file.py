"""Reading of tables by suffix: CSV, TSV, JSON lines and parquet."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from pnpvideo.errors import InputError, needs
from pnpvideo.evaluation.readers.json_file import read_text

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def read_table(path: Path) -> Iterator[Mapping[str, object]]:
    """Yield a table's rows by column; CSV has only text. Raise InputError if it is not a table."""
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise InputError(f"{path} is not a table; give {', '.join(TABLE_SUFFIXES)}")
    if suffix == ".parquet":
        yield from _read_parquet(path)
    elif suffix == ".jsonl":
        yield from _read_lines(path)
    else:
        text = io.StringIO(read_text(path), newline="")
        try:
            for row in csv.DictReader(text, delimiter="\t" if suffix == ".tsv" else ","):
                # Extra values of a row are under the name None; missing values are None.
                yield {name: value for name, value in row.items() if name and value is not None}
        except csv.Error as error:
            raise InputError(f"{path} is not {suffix[1:].upper()}: {error}") from None


def _read_lines(path: Path) -> Iterator[Mapping[str, object]]:
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}, is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}, is not a JSON object")
        yield row


def _read_parquet(path: Path) -> Iterator[Mapping[str, object]]:
    with needs("eval", str(path)):  # It is large, too.
        import pyarrow
        import pyarrow.parquet
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=16):
                yield from batch.to_pylist()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is not a parquet file, or is damaged: {error}") from None
