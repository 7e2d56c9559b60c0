"""What a grid tries its values on: a source, or the items of a benchmark."""

import logging
from dataclasses import dataclass
from pathlib import Path

from pnpvideo.errors import InputError
from pnpvideo.evaluation.items import Item, ReadRequest
from pnpvideo.options.grid import GridSettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A source, None where the model makes it, and what it is translated to.

    name: what its results are called.
    """

    name: str
    source: str | None
    prompts: tuple[str, ...]


def read_edits(settings: GridSettings) -> list[Edit]:
    """Return a benchmark's edits that start from a source, with all prompts of a source together.

    Items that continue another edit are left out, as broken entries are. Without a benchmark there
    are none.
    """
    if settings.benchmark is None or settings.source is None:
        return []
    # Its columns need the extra [eval].
    from pnpvideo.evaluation.benchmarks import KINDS, choose, told

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
