"""Show the jobs of a batch while they are made, and write their manifest."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table as Rows
from rich.text import Text
from tqdm import tqdm

from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.job import Job, Record, Skipped
from pnpvideo.catalogue.ask_model import notice_for
from pnpvideo.options.printed import printable

_log = logging.getLogger(__name__)

_WRITING = 20
"""The manifest is written for at most one in so many seconds."""

_ENDED, _NEXT = 6, 3
"""The number of rows for the jobs that ended last, and for those that come next."""


class Table:
    """The state of every job, shown as a table on a terminal, and elsewhere line by line."""

    def __init__(
        self,
        jobs: Sequence[Job],
        records: list[Record],
        folder: BatchFolder,
        skipped: Sequence[Skipped] = (),
    ) -> None:
        self.records, self._skipped = records, skipped
        self._jobs, self._folder = jobs, folder
        self._begun: dict[int, tuple[tuple[int, ...], float]] = {}
        self._ended: list[int] = []
        self._live: Live | None = None
        self._start = time.monotonic()
        self._done = sum(record.state == "done" for record in records)
        self._due: float | None = None
        self._written = self._took = 0.0

    @contextlib.contextmanager
    def shown(self, *, quiet: bool) -> Iterator[None]:
        """Show the table within this context, if stderr is a terminal."""
        terminal, console = sys.stderr, Console(stderr=True)
        if quiet or not console.is_terminal:
            yield
            return
        with (
            Live(get_renderable=self._picture, console=console, refresh_per_second=2) as self._live,
            _logged_above(terminal),
        ):
            yield

    def begin(self, number: int, worker: int) -> None:
        """Record that a worker began a job, or another span of it."""
        others, began = self._begun.get(number, ((), time.monotonic()))
        workers = (*others, worker)
        self._begun[number] = (workers, began)
        self._set(number, Record(state="running", worker=_worker_names(workers)))

    def set_waiting(self, number: int) -> None:
        """Record that a job that had begun is waiting again."""
        self._begun.pop(number, None)
        self._set(number, Record())

    def end(self, number: int, record: Record) -> None:
        """Record that a job ended, and log its error and its warnings.

        Unknown words are in the manifest, and were logged for all jobs at the start.
        """
        self._begun.pop(number, None)
        self._ended.append(number)
        self._set(number, record)
        job = self._jobs[number]
        known = notice_for(job.settings) if record.notices else None
        for notice in record.notices:
            if notice != known:
                _log.warning("%s: %s", job.shown, notice)
        if record.state == "failed":
            _log.error("%s failed: %s", job.shown, record.error)
        elif self._live is None:
            took = tqdm.format_interval(record.seconds)
            _log.info("%d of %d done: %s in %s", self._done, len(self._jobs), job.shown, took)

    def warn(self, text: str) -> None:
        """Log a warning."""
        _log.warning("%s", text)

    def write(self) -> Path:
        """Write the manifest with the current state."""
        began = time.monotonic()
        path = self._folder.write_manifest(self._jobs, self.records, self._skipped)
        self._written, self._due = time.monotonic(), None
        self._took = self._written - began
        return path

    def write_if_due(self) -> None:
        """Write the manifest if it has changed, unless that would take much of the time.

        It has a row for every job, and so would be written for as long as many jobs take.
        """
        if self._due is not None and time.monotonic() >= self._due:
            self.write()

    def _set(self, number: int, record: Record) -> None:
        self._done += (record.state == "done") - (self.records[number].state == "done")
        self.records[number] = record
        self._due = self._written + _WRITING * self._took
        self.write_if_due()

    def _picture(self) -> Group:
        rows = Rows(box=None, pad_edge=False)
        for title in ("job", "state", "frames", "time"):
            rows.add_column(title, justify="right" if title in ("frames", "time") else "left")
        waiting = [n for n, record in enumerate(self.records) if record.state == "waiting"]
        for number in (*self._ended[-_ENDED:], *list(self._begun), *waiting[:_NEXT]):
            # As texts, since rich reads [red] in a string as a colour.
            rows.add_row(*(Text(printable(cell)) for cell in self._row(number)))
        if len(waiting) > _NEXT:
            rows.add_row(f"and {len(waiting) - _NEXT} more", "waiting")
        return Group(rows, Text(self._sum()))

    def _row(self, number: int) -> tuple[str, str, str, str]:
        job, record = self._jobs[number], self.records[number]
        state, seconds = str(record.state), record.seconds
        if (begun := self._begun.get(number)) is not None:
            workers, began = begun
            state = f"worker {_worker_names(workers)}: {self._stage(job)}"
            seconds = time.monotonic() - began
        elif record.state == "failed":
            state = f"failed: {record.error}"
        took = tqdm.format_interval(seconds) if seconds else ""
        return job.shown, state, str(job.frames), took

    def _stage(self, job: Job) -> str:
        frames, steps = self._folder.how_far(job)
        if steps:
            known = "steps" in job.settings.model_fields_set
            return f"drawing, step {steps}" + (f" of {job.settings.steps}" if known else "")
        if job.inversion is None or frames >= job.frames:
            return "drawing"
        return f"reading the source, {frames} of {job.frames} frames"

    def _sum(self) -> str:
        states = [record.state for record in self.records]
        text = f"{states.count('done')} of {len(states)} done"
        if failed := states.count("failed"):
            text += f", {failed} failed"
        took = time.monotonic() - self._start
        made = sum(self._jobs[n].frames for n in self._ended)
        unfinished = sum(
            job.frames
            for job, state in zip(self._jobs, states, strict=True)
            if state in ("waiting", "running")
        )
        text += f", {tqdm.format_interval(took)} elapsed"
        if made and unfinished:
            text += f", about {tqdm.format_interval(took * unfinished / made)} left"
        return text


def _worker_names(workers: Sequence[int]) -> str:
    return ", ".join(map(str, workers))


@contextlib.contextmanager
def _logged_above(terminal: TextIO) -> Iterator[None]:
    """Print what is logged to a terminal above the table that is shown there.

    Within a `Live` display, `sys.stderr` is a stand-in that prints above the display. Handlers keep
    the stream that they were made with, so they are given the stand-in for as long.
    """
    # By their stream, not by their class: a log file has a handler of the same base class.
    handlers = [
        handler
        for handler in logging.getLogger("pnpvideo").handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is terminal
    ]
    for handler in handlers:
        handler.setStream(sys.stderr)
    try:
        yield
    finally:
        for handler in handlers:
            handler.setStream(terminal)
