"""Any pictures and clips, listed in a table with one edit on each row.

The table is CSV, TSV, JSON lines or parquet. Its columns are source and target_prompt, and
optionally source_prompt, mask, reference, id, type, caption and label. Paths are relative to the
table's folder.
"""

from pathlib import Path

from pnpvideo.evaluation.items import (
    Benchmark,
    BenchmarkEntry,
    Collector,
    Item,
    ReadRequest,
    UnusableError,
)
from pnpvideo.evaluation.masks import MaskPictures
from pnpvideo.files.tables import TABLE_SUFFIXES, read_table, text_of


class _Entry(BenchmarkEntry):
    source: str = ""
    target_prompt: str
    source_prompt: str = ""
    mask: str = ""
    reference: str = ""
    id: str = ""
    type: str = ""
    caption: str = ""
    label: str = ""


def read(data: Path, request: ReadRequest) -> Benchmark:
    """Return the items of a table, or of `manifest.*` in a folder."""
    if data.is_dir():
        named = sorted(data.glob("manifest.*"))
        manifests = [path for path in named if path.suffix.lower() in TABLE_SUFFIXES]
        data = manifests[0] if manifests else data / "manifest.csv"
    collector = Collector()
    for number, row in enumerate(read_table(data), 1):
        name = text_of(row.values.get("id", f"{number:05d}"))
        with collector.entry(name):
            collector.add(_item(data.parent, name, _Entry.model_validate(row.values)))
    return collector.done()


def _item(folder: Path, name: str, entry: _Entry) -> Item:
    if not entry.source:
        raise UnusableError("it has no source")
    mask = folder / entry.mask
    if entry.mask and not mask.exists():
        raise UnusableError(f"the mask {mask} is missing")
    return Item(
        id=name,
        source=folder / entry.source,
        prompt=entry.target_prompt,
        source_prompt=entry.source_prompt,
        edit_type=entry.type,
        label=entry.label or entry.target_prompt,
        caption=entry.caption,
        mask=MaskPictures(path=mask) if entry.mask else None,
        reference=folder / entry.reference if entry.reference else None,
        result=name,
    )
