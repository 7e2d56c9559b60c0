"""Libraries in C that print what they find, which nothing but the terminal can be told."""

import contextlib
import os
import threading
from collections.abc import Iterator

_STDERR = 2

_one = threading.Lock()


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Let nothing of this process reach its stderr: in one thread at a time, and briefly."""
    with _one:
        try:
            kept = os.dup(_STDERR)
        except OSError:  # It is closed.
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, _STDERR)
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            os.close(nowhere)
