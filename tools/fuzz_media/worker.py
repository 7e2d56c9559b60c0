"""A process that reads one source after the other, and what is left of it when one kills it."""

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

# More than any of these small files has a right to; other work goes on beside.
_MOST_MEMORY = 4 * 2**30


class Worker:
    """Reads sources in a process of its own, which is begun anew where one ends it.

    folder: for the results, which are removed.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        """seconds: in which a source must be read."""
        self._folder, self._seconds = folder, seconds
        self._said = folder.with_name("said.txt")
        self._process: multiprocessing.process.BaseProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def read(self, case: Case) -> Outcome:
        """What comes of a source."""
        if self._process is None:
            self._start()
        assert self._process is not None
        self._connection.send(case)
        try:
            if not self._connection.poll(self._seconds):
                self._stop()
                return Outcome(kind="hang", told=f"no answer in {self._seconds:g} s")
            outcome: Outcome = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode or 0
            self._process = None
            # What a killed run leaves is cleared by the next one to the same place.
            self._empty()
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return Outcome(kind="crash", told=f"{name}: {self._words()[-2000:]}")
        return self._after(outcome)

    def _after(self, outcome: Outcome) -> Outcome:
        words, left = self._words(), self._empty()
        if outcome.kind == "read":
            left = left[1:]
        if outcome.kind not in ("read", "refused"):
            return outcome
        if left:
            return Outcome(kind="leftover", told=f"{left} after {outcome.told}")
        if words:
            return Outcome(kind="said more", told=words[-2000:])
        if "\n" in outcome.told or not outcome.told:
            return Outcome(kind="not one line", told=outcome.told)
        return outcome

    def _empty(self) -> list[str]:
        """Empty the folder; the names of what was in it."""
        left = sorted(path.name for path in self._folder.iterdir())
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        return left

    def _words(self) -> str:
        """What was printed beside since this was last asked."""
        words = self._said.read_text(errors="replace").strip()
        os.truncate(self._said, 0)
        return words

    def _start(self) -> None:
        self._said.write_bytes(b"")
        context = multiprocessing.get_context("spawn")
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
    """Answer the cases that come until no more do. What is printed goes to a file."""
    with said.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    # As the command: libraries' notices are not shown, and its own are lines that belong there.
    warnings.filterwarnings("ignore")
    for library in ("tifffile", "PIL"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    logging.getLogger("pnpvideo").addHandler(logging.NullHandler())
    logging.getLogger("pnpvideo").propagate = False
    while True:
        try:
            case: Case = connection.recv()
        except EOFError:
            return
        try:
            outcome = read_one(case, folder)
        except Exception:
            outcome = Outcome(kind="traceback", told=traceback.format_exc())
        sys.stdout.flush()
        sys.stderr.flush()
        connection.send(outcome)
