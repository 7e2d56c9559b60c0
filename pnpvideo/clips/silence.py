"""Redirection of stderr (file descriptor 2) for C libraries that print to it directly."""

import contextlib
import os
import threading
from collections.abc import Iterator

_STDERR = 2

_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keep this process from printing to stderr. Only for short calls: one thread at a time."""
    with _one_at_a_time:
        try:
            original = os.dup(_STDERR)
        except OSError:  # It is closed.
            yield
            return
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, _STDERR)
            yield
        finally:
            os.dup2(original, _STDERR)
            os.close(original)
            os.close(null)
