"""A process that reads sources one after the other, and is restarted when one of them kills it."""

import gc
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from tools.fuzz_media.read_one import Case, Outcome, read_one

# More than any of these small files should need; other work may run at the same time.
_MOST_MEMORY = 4 * 2**30


class Worker:
    """A reader of sources in another process, which is restarted if a source ends it.

    folder: for the results, which are removed.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        """Take `seconds`: the time limit for a source."""
        self._folder, self._seconds = folder, seconds
        self._said = folder.with_name("said.txt")
        self._process: multiprocessing.process.BaseProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def read(self, case: Case) -> Outcome:
        """Return the outcome of reading a source."""
        if self._process is None:
            self._start()
        assert self._process is not None
        self._connection.send(case)
        try:
            if not self._connection.poll(self._seconds):
                self._stop()
                return Outcome(kind="hang", message=f"no answer in {self._seconds:g} s")
            outcome: Outcome = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode or 0
            self._process = None
            # The next run to the same output clears the files of a killed run.
            self._empty()
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return Outcome(kind="crash", message=f"{name}: {self._words()[-2000:]}")
        return self._after(outcome)

    def _after(self, outcome: Outcome) -> Outcome:
        words, left = self._words(), self._empty()
        if outcome.kind == "read":
            left = left[1:]
        if outcome.kind not in ("read", "refused"):
            return outcome
        if left:
            return Outcome(kind="leftover", message=f"{left} after {outcome.message}")
        if words:
            return Outcome(kind="said more", message=words[-2000:])
        if "\n" in outcome.message or not outcome.message:
            return Outcome(kind="not one line", message=outcome.message)
        return outcome

    def _empty(self) -> list[str]:
        """Empty the folder; return the names of its contents."""
        left = sorted(path.name for path in self._folder.iterdir())
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        return left

    def _words(self) -> str:
        """Return the other output since the last call."""
        words = self._said.read_text(errors="replace").strip()
        os.truncate(self._said, 0)
        return words

    def _start(self) -> None:
        self._said.write_bytes(b"")
        # A new process would import everything again, after each source that ends one.
        context = multiprocessing.get_context("fork")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._folder, self._said), daemon=True
        )
        self._process.start()
        theirs.close()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(connection: Connection, folder: Path, said: Path) -> None:
    """Answer cases until the connection ends. Output goes to a file."""
    with said.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    # As in the command: libraries' notices are hidden, and the package's notices are allowed.
    warnings.filterwarnings("ignore")
    for library in ("tifffile", "PIL"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    logging.getLogger("pnpvideo").addHandler(logging.NullHandler())
    logging.getLogger("pnpvideo").propagate = False
    gc.freeze()  # All modules would be searched after every case.
    while True:
        try:
            case: Case = connection.recv()
        except EOFError:
            return
        try:
            outcome = read_one(case, folder)
        except Exception:
            outcome = Outcome(kind="traceback", message=traceback.format_exc())
        sys.stdout.flush()
        sys.stderr.flush()
        connection.send(outcome)
