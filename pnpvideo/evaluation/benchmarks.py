"""The benchmarks that are known, each with its reader and its columns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pnpvideo.errors import InputError
from pnpvideo.evaluation import columns, flexit
from pnpvideo.evaluation.columns import Column
from pnpvideo.evaluation.items import Benchmark, Item, LeftOut, ReadRequest
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
class Kind:
    """read: the items of data in the published format. columns: of the benchmark's table.

    crop: whether results that are not square show the source's square at their right bottom.
    named: whether classes come from the items' texts. summed: whether a mean over all edit types
    means something; else these are ways of editing the same pictures.
    """

    read: Callable[[Path, ReadRequest], Benchmark]
    columns: tuple[Column, ...]
    crop: bool = False
    named: bool = False
    summed: bool = True

    def columns_for(self, items: Sequence[Item]) -> tuple[Column, ...]:
        """The columns for some items; those that a classifier fills know the items' classes."""
        if not self.named:
            return self.columns
        return (*self.columns, flexit.accuracy_column(sorted({item.label for item in items})))


KINDS: dict[BenchmarkName, Kind] = {
    "pie-bench": Kind(read=pie_bench.read, columns=columns.PIE_BENCH, crop=True),
    "wild-ti2i": Kind(read=ti2i.read, columns=columns.TI2I),
    "imagenet-r-ti2i": Kind(read=ti2i.read, columns=columns.TI2I),
    "emu-edit": Kind(read=emu_edit.read, columns=columns.EMU_EDIT),
    "magicbrush": Kind(read=magicbrush.read, columns=columns.MAGICBRUSH, summed=False),
    "imagenet-real-edit": Kind(
        read=imagenet_real_edit.read,
        columns=(*flexit.COLUMNS, columns.CLIP_TEXT, *columns.SHIFT),
        named=True,
    ),
    "five-bench": Kind(read=five_bench.read, columns=columns.FIVE_BENCH),
    "manifest": Kind(read=manifest.read, columns=columns.MANIFEST),
}


def choose(
    benchmark: Benchmark, types: Sequence[str], limit: int | None, *, strict: bool
) -> Benchmark:
    """The items of some edit types, the first ones of them, with the steps that lead to them.

    InputError where an entry is broken (strict), a type unknown, or nothing is left.
    """
    broken = [left for left in benchmark.left_out if not left.by_rule]
    if strict and broken:
        raise InputError(told(broken))
    known = list(dict.fromkeys(item.edit_type for item in benchmark.items))
    for name in types:
        if not any(_is_type(name, kind) for kind in known):
            raise InputError(f"there is no edit type {name!r}; known are {', '.join(known)}")
    chosen = [
        item
        for item in benchmark.items
        if not types or any(_is_type(name, item.edit_type) for name in types)
    ]
    if limit is not None:
        scored = [item.id for item in chosen if item.scored][:limit]
        last = max((n for n, item in enumerate(chosen) if item.id in scored), default=-1)
        wanted = _with_steps(chosen[: last + 1], set(scored))
        chosen = [item for item in chosen if item.id in wanted]
    if not chosen:
        raise InputError(f"no item is left; {told(broken)}" if broken else "no item is left")
    return Benchmark(items=tuple(chosen), left_out=benchmark.left_out)


def _is_type(name: str, edit_type: str) -> bool:
    """By the whole name, or by its number: "3 delete object" is also "3"."""
    return name == edit_type or name == edit_type.partition(" ")[0]


def _with_steps(items: Sequence[Item], wanted: set[str]) -> set[str]:
    """The wanted ids and those of all items that they come after."""
    for item in reversed(items):
        if item.id in wanted and item.after is not None:
            wanted.add(item.after)
    return wanted


def told(left_out: Sequence[LeftOut], *, shown: int = 3) -> str:
    """The first entries that were left out and why, in one line."""
    texts = [f"{left.id}: {left.reason}" for left in left_out[:shown]]
    more = len(left_out) - shown
    return "; ".join(texts) + (f"; and {more} more" if more > 0 else "")
