"""A benchmark's items as a grid's edits."""

import logging
from pathlib import Path

from pnpvideo.errors import InputError
from pnpvideo.evaluation.benchmarks import KINDS, choose, told
from pnpvideo.evaluation.items import Item, ReadRequest
from pnpvideo.grid.edit import Edit
from pnpvideo.options.grid import GridSettings

_log = logging.getLogger(__name__)


def read_edits(settings: GridSettings) -> list[Edit]:
    """All edits that start from a source, prompts of the same source together.

    What a benchmark asks for after another edit is left out, as the broken entries are.
    """
    assert settings.benchmark is not None
    assert settings.source is not None
    assert settings.output is not None
    data = Path(settings.source).expanduser()
    if not data.exists():
        raise InputError(f"{data} does not exist; give the benchmark's folder or file")
    request = ReadRequest(unpacked=Path(settings.output).expanduser() / "sources")
    read = KINDS[settings.benchmark].read(data, request)
    benchmark = choose(read, settings.types, settings.limit, strict=False)
    if benchmark.left_out:
        _log.warning("left out: %s", told(benchmark.left_out))
    by_source: dict[Path, list[Item]] = {}
    for item in benchmark.items:
        if item.source is not None and item.scored:
            by_source.setdefault(item.source, []).append(item)
    return [
        Edit(
            name=items[0].id.replace("/", "_"),
            source=str(source),
            prompts=tuple(dict.fromkeys(item.prompt for item in items)),
        )
        for source, items in by_source.items()
    ]
