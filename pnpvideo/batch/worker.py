"""Run the jobs that a worker gets, one after the other."""

import contextlib
import gc
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.job import Job, Record, Span, Task
from pnpvideo.clips.read import read_clip
from pnpvideo.errors import InputError, RunError
from pnpvideo.models.model import Model
from pnpvideo.options.printed import without_secrets
from pnpvideo.run.opening import Opener, open_model
from pnpvideo.run.run import run, run_span

_log = logging.getLogger("pnpvideo")


class Worker:
    """A worker, which keeps the model that it has loaded until a job wants another one."""

    def __init__(
        self,
        folder: BatchFolder,
        name: str,
        device: str | None,
        opener: Opener = open_model,
    ) -> None:
        """name: as it stands in records. device: in place of the jobs' own; None: theirs.

        opener: loads a job's model.
        """
        self._folder, self._name, self._device = folder, name, device
        self._open_model = opener
        self._loaded: tuple[str, Model] | None = None
        self._refused: dict[str, InputError] = {}

    def do(self, task: Task) -> Record | None:
        """Run a task and return its record; None if another process has the task."""
        return self._do_span(task) if isinstance(task, Span) else self._do_job(task)

    def _do_span(self, span: Span) -> Record | None:
        with self._folder.claim(self._folder.span_folder(span).name) as claimed:
            return self._attempt(span.job, lambda: self._make_span(span)) if claimed else None

    def _do_job(self, job: Job) -> Record | None:
        with self._folder.claim(job.id) as claimed:
            if not claimed:
                return None
            record = self._folder.record(job)
            if self._folder.is_done(job):
                return record
            if record.state == "done" or self._folder.is_written(job):
                with contextlib.suppress(InputError, RunError):
                    self._deliver(job)
                    return self._end(job, record)
            self._folder.keep(job, Record(state="running", worker=self._name))
            record = self._attempt(job, lambda: self._make(job))
            return self._end(job, record) if record.state == "done" else record

    def _attempt(self, job: Job, work: Callable[[], None]) -> Record:
        """Do work for a job. A failure is saved as its record."""
        notices: list[str] = []
        began = time.monotonic()
        try:
            with _collected(notices):
                work()
            return Record(
                state="done",
                notices=tuple(notices),
                seconds=time.monotonic() - began,
                worker=self._name,
            )
        except (InputError, RunError) as error:
            text = without_secrets(str(error))
        except Exception as error:
            _log.debug("%s: %s", job.shown, traceback.format_exc())
            text = without_secrets(f"unexpected error: {type(error).__name__}: {error}")
        failed = Record(
            state="failed",
            error=" ".join(text.split()),
            notices=tuple(notices),
            seconds=time.monotonic() - began,
            finished=time.time(),
            worker=self._name,
        )
        self._folder.keep(job, failed)
        return failed

    def _make_span(self, span: Span) -> None:
        job, folder = span.job, self._folder.span_folder(span)
        self._folder.take_inversion(job, folder)
        run_span(job.settings, self._load(job), folder, number=span.number, count=span.count)

    def _make(self, job: Job) -> None:
        self._folder.take_spans(job)
        self._folder.take_inversion(job, self._folder.job_folder(job))

        run(
            job.settings,
            self._load(job),
            overwrite=True,
            quiet=True,
            after_inversion=lambda _: self._folder.lend_inversion(job),
            job=self._folder.job_folder(job),
        )
        self._deliver(job)

    def _deliver(self, job: Job) -> None:
        """Read back what a job wrote, and deliver it. RunError if it is not as it should be."""
        for path in job.clips:
            _check(job, path)
        self._folder.deliver(job, partial(_check, job))

    def _end(self, job: Job, record: Record) -> Record:
        """Save that a job is done. record: that of its run."""
        done = Record(
            state="done",
            notices=record.notices,
            seconds=record.seconds,
            finished=time.time(),
            worker=record.worker,
            stamps=self._folder.stamps_of(job),
        )
        self._folder.keep(job, done)
        self._folder.delete_run_files(job)
        return done

    def _load(self, job: Job) -> Model:
        if job.model in self._refused:
            raise self._refused[job.model]
        if self._loaded is None or self._loaded[0] != job.model:
            self._loaded = None  # Two may be more than the memory holds.
            gc.collect()
            settings = job.settings
            if self._device is not None and settings.device is None:
                settings = settings.model_copy(update={"device": self._device})
            try:
                self._loaded = (job.model, self._open_model(settings))
            except InputError as error:
                self._refused[job.model] = error
                raise
        return self._loaded[1]


def _check(job: Job, path: Path) -> None:
    """Raise RunError or InputError unless every frame of a job's result can be decoded."""
    with contextlib.closing(read_clip(path, reader="av")) as clip:
        found = sum(len(frames) for frames in clip.batches(8))
    if found != job.frames:
        raise RunError(f"{path} was read back with {found} frames, not {job.frames}")


@contextlib.contextmanager
def _collected(notices: list[str]) -> Iterator[None]:
    """Collect the package's warnings in `notices` instead of showing them."""

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if (text := record.getMessage()) not in notices:
                notices.append(text)

    before = _log.handlers
    _log.handlers = [Collector(logging.WARNING)]
    try:
        yield
    finally:
        _log.handlers = before
