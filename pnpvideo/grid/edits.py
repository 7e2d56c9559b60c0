"""The edits on which a grid tries its values: of a source, or of a benchmark's items."""

import logging
from dataclasses import dataclass
from pathlib import Path

from pnpvideo.errors import InputError
from pnpvideo.evaluation.items import Item, ReadRequest
from pnpvideo.options.grid import GridSettings
from pnpvideo.options.paths import expanded

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GridEdit:
    """A source (None if the model generates it) and its prompts. name: of its results."""

    name: str
    source: str | None
    prompts: tuple[str, ...]


def read_edits(settings: GridSettings) -> list[GridEdit]:
    """Return all edits that start from a source; all prompts of one source make one edit.

    Items that start from another item's result, and broken entries, are left out. Without a
    benchmark the list is empty.
    """
    if settings.benchmark is None or settings.source is None:
        return []
    # Imported late: the benchmarks' columns need the extra [eval].
    from pnpvideo.evaluation.benchmarks import BENCHMARKS, choose, left_out_text

    data = expanded(settings.source)
    if not data.exists():
        raise InputError(f"{data} does not exist; give the benchmark's folder or file")
    request = ReadRequest(unpacked=expanded(settings.output) / "sources")
    read = BENCHMARKS[settings.benchmark].read(data, request)
    benchmark = choose(read, settings.types, settings.limit, strict=False)
    if benchmark.left_out:
        _log.warning("left out: %s", left_out_text(benchmark.left_out))
    by_source: dict[Path, list[Item]] = {}
    for item in benchmark.items:
        if item.source is not None and item.scored:
            by_source.setdefault(item.source, []).append(item)
    return [
        GridEdit(
            name=items[0].id.replace("/", "_"),
            source=str(source),
            prompts=tuple(dict.fromkeys(item.prompt for item in items)),
        )
        for source, items in by_source.items()
    ]
