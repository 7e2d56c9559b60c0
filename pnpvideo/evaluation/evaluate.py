"""Evaluation of a benchmark, from its data to its tables and its page."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from pnpvideo.errors import InputError, RunError
from pnpvideo.evaluation.benchmarks import BENCHMARKS, choose, left_out_text
from pnpvideo.evaluation.flexit import read_statistics
from pnpvideo.evaluation.items import Benchmark, Item, ReadRequest, find_result
from pnpvideo.evaluation.load_networks import parse_places
from pnpvideo.evaluation.make_results import ResultMaker
from pnpvideo.evaluation.measure_results import Measurer, MethodFolders
from pnpvideo.evaluation.networks import Networks
from pnpvideo.evaluation.report import write_page
from pnpvideo.evaluation.run_folder import RunFolder
from pnpvideo.evaluation.samples import FrameRange
from pnpvideo.evaluation.summary import Summary, summarise, write_tables
from pnpvideo.options.declared import Lifetime
from pnpvideo.options.evaluation import OURS, EvaluationSettings
from pnpvideo.options.paths import expanded
from pnpvideo.run.opening import choose_device, memory_errors_in_one_line, open_model

_log = logging.getLogger(__name__)

_POLL_SECONDS = 2.0  # seconds between two checks whether other processes have finished


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The files that a run wrote. page: for people; tables: for programs."""

    summary: Summary
    page: Path
    tables: tuple[Path, ...]


def evaluate(settings: EvaluationSettings, *, quiet: bool = False) -> Evaluation:
    """Make missing results, measure those not yet measured, and write tables and page.

    Raise InputError for wrong input, RunError for failed work. Finished results always stay.
    """
    # 1. Read the benchmark, and make all cheap checks
    spec, folder = BENCHMARKS[settings.benchmark], RunFolder(expanded(settings.output))
    statistics = None
    if settings.statistics is not None:
        statistics = read_statistics(expanded(settings.statistics))
    benchmark = _read(settings, folder)
    methods = _methods(settings, folder, benchmark)
    device = choose_device(settings)
    places = parse_places(settings.network)
    networks = Networks(places, device=device, structure_mode=settings.structure)
    if settings.ours:
        folder.check_settings(_made_with(settings))

    # 2. Make and measure group by group; one process works on a group
    columns = spec.columns_for(benchmark.items)
    frames = FrameRange(stride=settings.frame_stride, count=settings.frame_count)
    work = _Work(
        benchmark=benchmark,
        folder=folder,
        maker=ResultMaker(settings, folder.results(OURS), partial(open_model, settings, device))
        if settings.ours
        else None,
        measurer=Measurer(
            folder,
            methods,
            columns,
            networks,
            frames,
            crop=spec.crop,
            pooled=statistics is not None,
        ),
        strict=settings.strict,
    )
    with memory_errors_in_one_line(device):
        work.run(quiet=quiet)

    # 3. Write
    summary = summarise(
        settings,
        benchmark,
        list(methods),
        columns,
        folder,
        networks,
        statistics,
        mean_over_types=spec.mean_over_types,
    )
    if not summary.rows:
        raise RunError(f"nothing could be measured: {left_out_text(summary.left_out)}")
    tables = write_tables(summary, folder)
    page = write_page(summary, benchmark, methods, folder, frames)
    return Evaluation(summary=summary, page=page, tables=tables)


def _read(settings: EvaluationSettings, folder: RunFolder) -> Benchmark:
    data = expanded(settings.data)
    if not data.exists():
        raise InputError(f"{data} does not exist; give the benchmark's folder or file")
    request = ReadRequest(
        captions=None if settings.captions is None else expanded(settings.captions),
        unpacked=folder.path / "sources",
    )
    read = BENCHMARKS[settings.benchmark].read(data, request)
    benchmark = choose(read, settings.types, settings.limit, strict=settings.strict)
    if benchmark.left_out:
        count = len(benchmark.left_out)
        entries = "1 entry is" if count == 1 else f"{count} entries are"
        _log.warning("%s left out (%s)", entries, left_out_text(benchmark.left_out))
    return benchmark


def _methods(
    settings: EvaluationSettings, folder: RunFolder, benchmark: Benchmark
) -> MethodFolders:
    """Return the folder of each method's results, this method first.

    InputError if a folder of another method has none of the results.
    """
    scored = [item.result for item in benchmark.items if item.scored]
    methods = {OURS: folder.results(OURS)} if settings.ours else {}
    for text in settings.theirs:
        name, sign, place = text.partition("=")
        path = expanded(place)
        if not sign or not name or not path.is_dir():
            raise InputError(f"theirs is {text!r}; give NAME=FOLDER, with a folder of results")
        if name in methods:
            raise InputError(f"the method {name} is given twice; choose another name")
        if all(find_result(path, result) is None for result in scored):
            raise InputError(
                f"the method {name} has no result in {path}; they are called {scored[0]}.png, "
                "or with another suffix, or are folders of frames"
            )
        methods[name] = path
    return methods


def _made_with(settings: EvaluationSettings) -> Mapping[str, object]:
    """Return the settings that results depend on, as a file holds them."""
    values = settings.affecting(Lifetime.FINISHING)
    return {name: value for name, value in values.items() if value not in (None, [])}


@dataclass(frozen=True, kw_only=True)
class _Work:
    """The remaining work, which several processes share."""

    benchmark: Benchmark
    folder: RunFolder
    maker: ResultMaker | None
    measurer: Measurer
    strict: bool

    @cached_property
    def _by_id(self) -> Mapping[str, Item]:
        return {item.id: item for item in self.benchmark.items}

    def run(self, *, quiet: bool) -> None:
        """Work until everything is done, by this process or another."""
        groups: dict[str, list[Item]] = {}
        for item in self.benchmark.items:
            groups.setdefault(item.group_key, []).append(item)
        waiting = list(groups.items())
        bar = tqdm(total=len(self.benchmark.items), unit=" items", disable=quiet)
        with bar:
            while waiting:
                done = [name for name, items in waiting if self._do(name, items, bar)]
                waiting = [(name, items) for name, items in waiting if name not in done]
                if waiting:
                    time.sleep(_POLL_SECONDS)

    def _do(self, name: str, items: Sequence[Item], bar: "tqdm[NoReturn]") -> bool:
        """Make and measure a group; return False if another process is working on it."""
        with self.folder.claim(name) as claimed:
            if claimed:
                self._make_and_measure(items)
        if claimed:
            bar.update(len(items))
        return claimed

    def _make_and_measure(self, items: Sequence[Item]) -> None:
        reasons: dict[str, str] = {}
        if self.maker is not None:
            left_out = self.maker.make(items, self._by_id)
            if left_out and self.strict:
                raise InputError(left_out_text(left_out))
            reasons = {entry.id: entry.reason for entry in left_out}
            for entry in left_out:
                _log.warning("%s is left out: %s", entry.id, entry.reason)
        for item in items:
            if item.scored and not self.measurer.is_done(item):
                self.measurer.measure(item, self._by_id, reasons)
