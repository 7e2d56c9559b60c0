"""Collect what the package logs as warnings during a run, for the visitor to read."""

import contextlib
import logging
import threading
from collections.abc import Iterator

_log = logging.getLogger("pnpvideo")


@contextlib.contextmanager
def notices_of_this_thread() -> Iterator[list[str]]:
    """Collect the texts of warnings that this thread logs within this context, each once."""
    found: list[str] = []
    own = threading.get_ident()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # What this server's own files log is for whoever runs the server.
            if record.thread != own or record.name.startswith("pnpvideo.web"):
                return
            if (text := record.getMessage()) not in found:
                found.append(text)

    collector = Collector(logging.WARNING)
    _log.addHandler(collector)
    try:
        yield found
    finally:
        _log.removeHandler(collector)
