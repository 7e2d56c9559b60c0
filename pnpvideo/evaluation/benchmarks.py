"""The supported benchmarks, each with its reader and its columns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pnpvideo.errors import InputError
from pnpvideo.evaluation import columns, flexit
from pnpvideo.evaluation.columns import Column
from pnpvideo.evaluation.items import Benchmark, Item, LeftOutEntry, ReadRequest
from pnpvideo.evaluation.readers import (
    emu_edit,
    five_bench,
    imagenet_real_edit,
    magicbrush,
    manifest,
    pie_bench,
    ti2i,
)
from pnpvideo.options.evaluation import BenchmarkName


@dataclass(frozen=True, kw_only=True)
class BenchmarkSpec:
    """The reader and the table of one benchmark.

    read: reads the items of data in the published format. columns: of the benchmark's table.
    crop: whether a result that is not square has the source's square at its bottom right.
    class_from_text: whether classes come from the items' texts. mean_over_types: whether a mean
    over all edit types is meaningful; otherwise they are different edits of the same pictures.
    """

    read: Callable[[Path, ReadRequest], Benchmark]
    columns: tuple[Column, ...]
    crop: bool = False
    class_from_text: bool = False
    mean_over_types: bool = True

    def columns_for(self, items: Sequence[Item]) -> tuple[Column, ...]:
        """Return the columns for some items, with the classifier's column for their classes."""
        if not self.class_from_text:
            return self.columns
        return (*self.columns, flexit.accuracy_column(sorted({item.label for item in items})))


BENCHMARKS: dict[BenchmarkName, BenchmarkSpec] = {
    "pie-bench": BenchmarkSpec(read=pie_bench.read, columns=columns.PIE_BENCH, crop=True),
    "wild-ti2i": BenchmarkSpec(read=ti2i.read, columns=columns.TI2I),
    "imagenet-r-ti2i": BenchmarkSpec(read=ti2i.read, columns=columns.TI2I),
    "emu-edit": BenchmarkSpec(read=emu_edit.read, columns=columns.EMU_EDIT),
    "magicbrush": BenchmarkSpec(
        read=magicbrush.read, columns=columns.MAGICBRUSH, mean_over_types=False
    ),
    "imagenet-real-edit": BenchmarkSpec(
        read=imagenet_real_edit.read,
        columns=(*flexit.COLUMNS, columns.CLIP_TEXT, *columns.SHIFT),
        class_from_text=True,
    ),
    "five-bench": BenchmarkSpec(read=five_bench.read, columns=columns.FIVE_BENCH),
    "manifest": BenchmarkSpec(read=manifest.read, columns=columns.MANIFEST),
}


def choose(
    benchmark: Benchmark, types: Sequence[str], limit: int | None, *, strict: bool
) -> Benchmark:
    """Return the first `limit` items of some edit types, with the steps that lead to them.

    Raise InputError if an entry is broken (strict), a type is unknown, or no item is left.
    """
    broken = [entry for entry in benchmark.left_out if not entry.by_rule]
    if strict and broken:
        raise InputError(left_out_text(broken))
    known_types = list(dict.fromkeys(item.edit_type for item in benchmark.items))
    for name in types:
        if not any(_is_type(name, known_type) for known_type in known_types):
            raise InputError(
                f"there is no edit type {name!r}; give one of {', '.join(known_types)}"
            )
    chosen = [
        item
        for item in benchmark.items
        if not types or any(_is_type(name, item.edit_type) for name in types)
    ]
    if limit is not None:
        scored = [item.id for item in chosen if item.scored][:limit]
        last_index = max(
            (index for index, item in enumerate(chosen) if item.id in scored), default=-1
        )
        wanted_ids = _with_previous(chosen[: last_index + 1], set(scored))
        chosen = [item for item in chosen if item.id in wanted_ids]
    if not chosen:
        raise InputError(
            f"no item is left; {left_out_text(broken)}" if broken else "no item is left"
        )
    return Benchmark(items=tuple(chosen), left_out=benchmark.left_out)


def _is_type(name: str, edit_type: str) -> bool:
    """Return whether a name is an edit type or its number: "3" is also "3 delete object"."""
    return name == edit_type or name == edit_type.partition(" ")[0]


def _with_previous(items: Sequence[Item], wanted_ids: set[str]) -> set[str]:
    """Return the wanted ids, and the ids of all items whose results they start from."""
    for item in reversed(items):
        if item.id in wanted_ids and item.after is not None:
            wanted_ids.add(item.after)
    return wanted_ids


def left_out_text(left_out: Sequence[LeftOutEntry], *, shown: int = 3) -> str:
    """Return the first left-out entries and their reasons in one line."""
    texts = [f"{entry.id}: {entry.reason}" for entry in left_out[:shown]]
    remaining = len(left_out) - shown
    return "; ".join(texts) + (f"; and {remaining} more" if remaining > 0 else "")
