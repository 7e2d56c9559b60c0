"""EMU Edit's test set (Sheynin et al. 2023, arXiv 2311.10089).

A table with instruction, image, task, split, idx, hash, input_caption and output_caption: parquet
with embedded pictures, as on the hub, or CSV or JSON lines with their paths. Some rows have a
placeholder instead of captions; they cannot be edited by text.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pnpvideo.errors import InputError
from pnpvideo.evaluation.items import (
    Benchmark,
    BenchmarkEntry,
    Collector,
    Item,
    ReadRequest,
    UnusableError,
    find_picture,
)
from pnpvideo.files.atomic_output import renamed
from pnpvideo.files.tables import TABLE_SUFFIXES, read_table

PLACEHOLDER = "a train station in city"
"""The text in place of a missing caption."""


class _Picture(BenchmarkEntry):
    bytes: bytes


class _Entry(BenchmarkEntry):
    idx: int
    task: str
    instruction: str
    input_caption: str
    output_caption: str
    image: str | _Picture


def read(data: Path, request: ReadRequest) -> Benchmark:
    """Return the rows with captions of a table, or of all tables in a folder."""
    collector = Collector()
    for path, name, row in _rows(data):
        with collector.entry(name):
            entry = _Entry.model_validate(row)
            _check_captions(entry)
            collector.add(
                Item(
                    id=str(entry.idx),
                    source=_picture(entry, path.parent, request.unpacked),
                    prompt=entry.output_caption,
                    source_prompt=entry.input_caption,
                    edit_type=entry.task,
                    result=str(entry.idx),
                )
            )
    return collector.done()


def _rows(data: Path) -> Iterator[tuple[Path, str, Mapping[str, object]]]:
    """Yield each row with its file and name."""
    paths = [data]
    if data.is_dir():
        tables = sorted(path for path in data.rglob("*") if path.suffix.lower() in TABLE_SUFFIXES)
        # The hub has other splits besides the test split.
        paths = [path for path in tables if path.name.startswith("test")] or tables
    if not paths:
        raise InputError(f"{data} has no table; give {', '.join(TABLE_SUFFIXES)}")
    for path in paths:
        for row in read_table(path):
            yield path, str(row.values.get("idx", row.place)), row.values


def _check_captions(entry: _Entry) -> None:
    captions = [
        text.strip().rstrip(".").lower() for text in (entry.input_caption, entry.output_caption)
    ]
    if PLACEHOLDER in captions:
        raise UnusableError("its caption is a placeholder", by_rule=True)
    if captions[0] == captions[1]:
        raise UnusableError("its two captions are the same", by_rule=True)


def _picture(entry: _Entry, folder: Path, unpacked: Path) -> Path:
    if isinstance(entry.image, str):
        return find_picture(folder, entry.image)
    path = unpacked / f"{entry.idx}.png"
    if not path.exists():
        unpacked.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with renamed(part, path):
            part.write_bytes(entry.image.bytes)
    return path
