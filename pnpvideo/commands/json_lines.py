"""Reports of a run for scripts: on stdout one line of JSON for each event."""

import contextlib
import json
import logging
import time
from collections.abc import Iterator

from tqdm import tqdm

from pnpvideo.errors import InputError, RunError
from pnpvideo.options.printed import one_line

_log = logging.getLogger("pnpvideo")

_SECONDS = 0.1
"""Time between lines of one bar, so that reports do not slow down fast work."""


def report(event: str, **values: object) -> None:
    """Print one event, unbuffered."""
    # In ASCII, which every terminal and pipe takes.
    print(json.dumps({"event": event, **values}, default=str), flush=True)


@contextlib.contextmanager
def errors_as_json(*, wanted: bool) -> Iterator[None]:
    """Report an error that ends the run as JSON too, if that is wanted."""
    try:
        yield
    except (InputError, RunError, OSError) as error:
        if wanted:
            report("error", message=one_line(error))
        raise


class _Warnings(logging.Handler):
    """A handler that reports warnings as events, with the details that they were logged with."""

    def emit(self, record: logging.LogRecord) -> None:
        details = getattr(record, "details", {})
        report("warning", message=one_line(record.getMessage()), **details)


@contextlib.contextmanager
def warnings_as_json(*, wanted: bool) -> Iterator[None]:
    """Report the package's warnings as JSON too, within a context, if that is wanted."""
    handler = _Warnings(logging.WARNING)
    if wanted:
        _log.addHandler(handler)
    try:
        yield
    finally:
        _log.removeHandler(handler)


class JsonBar(tqdm):  # type: ignore[type-arg]
    """A progress bar as events: its stage, and how many steps of single frames are done."""

    def __init__(self, *, desc: str, total: int, initial: int, **config: object) -> None:
        # Nothing is drawn.
        super().__init__(**{**config, "disable": True})  # type: ignore[call-overload]
        self._stage, self._done, self._all, self._reported = desc, initial, total, 0.0
        self._report()

    def update(self, n: float | None = 1) -> None:
        self._done += int(n or 0)
        if self._done >= self._all or time.monotonic() - self._reported > _SECONDS:
            self._report()

    def _report(self) -> None:
        self._reported = time.monotonic()
        report("progress", stage=self._stage, done=self._done, total=self._all)
