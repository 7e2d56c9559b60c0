"""Do what a server does in the background: delete old jobs, and stop those that it is asked to."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pnpvideo.errors import InputError
from pnpvideo.files.file_lock import open_lock, take_lock
from pnpvideo.web.jobs import STOP, JobStore, read_job

SWEEP_SECONDS = 600
"""The longest time between two deletions of old runs."""
_LOOK_SECONDS = 1.0
_ANSWER_SECONDS = 20.0

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def kept_tidy(store: JobStore, seconds: float, stop: Callable[[str], None]) -> Iterator[None]:
    """Delete jobs over this age and stop those named by `ask_to_stop`, within this context.

    stop: stops the job of a name.
    """
    ended = threading.Event()
    often = min(SWEEP_SECONDS, seconds)

    def work() -> None:
        swept = time.monotonic()
        while not ended.wait(min(_LOOK_SECONDS, often)):
            try:
                _stop_asked(store, stop)
                if time.monotonic() - swept >= often:
                    swept = time.monotonic()
                    store.sweep(seconds)
            except Exception:
                _log.exception("old runs are not deleted; it is tried again")

    store.sweep(seconds)
    thread = threading.Thread(target=work, name="housekeeping", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _stop_asked(store: JobStore, stop: Callable[[str], None]) -> None:
    for job in store.unfinished():
        asked = job.folder / STOP
        if asked.exists():
            asked.unlink()
            stop(job.name)


@contextlib.contextmanager
def used_alone(folder: Path) -> Iterator[None]:
    """Lock a server's folder within this context. InputError if another server uses it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open_lock(folder / "lock")
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be used: {error.strerror}") from None
    with lock:
        if not take_lock(lock):
            raise InputError(f"another server uses the folder {folder}; give another one")
        yield


def ask_to_stop(folder: Path, name: str) -> list[str]:
    """Ask the server that uses a folder to stop a job, or "all"; wait; return what it stopped.

    InputError if no server uses the folder, or has no such job.
    """
    _check_served(folder)
    unfinished = JobStore(folder / "jobs").unfinished()
    asked = [job for job in unfinished if name in (job.name, "all")]
    if not asked:
        known = ", ".join(job.name for job in unfinished) or "none is there"
        raise InputError(f"there is no job {name} to stop; waiting or running jobs: {known}")
    for job in asked:
        (job.folder / STOP).touch()
    left = asked
    until = time.monotonic() + _ANSWER_SECONDS
    while left and time.monotonic() < until:
        time.sleep(0.1)
        left = [job for job in left if (now := read_job(job.folder)) and not now.is_over]
    return [job.name for job in asked if job not in left]


def _check_served(folder: Path) -> None:
    lock = folder / "lock"
    served = False
    if lock.exists():
        with open_lock(lock) as file:
            served = not take_lock(file)
    if not served:
        raise InputError(
            f"no server uses the folder {folder}; give the --folder of a running server"
        )
