"""Deletion of runs that are older than a server keeps them."""

import contextlib
import threading
from collections.abc import Iterator

from pnpvideo.web.jobs import JobStore

SWEEP_SECONDS = 600
"""How often, where things are kept that long."""


@contextlib.contextmanager
def swept(store: JobStore, seconds: float) -> Iterator[None]:
    """Within, jobs that are over are deleted when they are older than so many seconds."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(min(SWEEP_SECONDS, seconds)):
            store.sweep(seconds)

    store.sweep(seconds)
    thread = threading.Thread(target=work, name="sweep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
