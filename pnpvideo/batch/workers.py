"""Run workers in this process, or in their own processes, which may die.

The workers of a cluster are in `actors`.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:  # Windows has only one of them.
    from multiprocessing.context import ForkServerContext, SpawnContext

# A closed terminal reaches workers directly. Windows has no such signal.
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]

Task = TypeVar("Task")
Result = TypeVar("Result")
AnyTask = TypeVar("AnyTask", contravariant=True)
AnyResult = TypeVar("AnyResult", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Ended(Generic[AnyResult]):
    """A task that ended. died: why the worker gave no result; '' if it gave one."""

    worker: int
    result: AnyResult | None = None
    died: str = ""


class Workers(Protocol[AnyTask, AnyResult]):
    """Workers, known by their numbers, each of which does one task at a time."""

    def __len__(self) -> int: ...

    def ready(self, worker: int) -> bool:
        """Return whether an idle worker can take a task. A worker that died is replaced."""

    def submit(self, worker: int, task: AnyTask) -> None:
        """Give a task to a worker that is ready."""

    def wait(self, seconds: float) -> "Sequence[Ended[AnyResult]]":
        """Return the tasks that have ended, after waiting this long for the first one."""

    def close(self) -> None:
        """End all workers, even those that have a task."""


class Here(Generic[Task, Result]):
    """One worker, which is this process: `wait` does its task."""

    def __init__(self, start: Callable[[int], Callable[[Task], Result]]) -> None:
        """start: returns, for a worker's number, the function that does its tasks."""
        self._do = start(0)
        self._tasks: list[Task] = []

    def __len__(self) -> int:
        return 1

    def ready(self, worker: int) -> bool:
        return True

    def submit(self, worker: int, task: Task) -> None:
        self._tasks.append(task)

    def wait(self, seconds: float) -> list[Ended[Result]]:
        return [Ended(worker=0, result=self._do(self._tasks.pop()))] if self._tasks else []

    def close(self) -> None:
        self._tasks.clear()


class Processes(Generic[Task, Result]):
    """Workers in their own processes, which end when this one does, however it ends."""

    def __init__(self, start: Callable[[int], Callable[[Task], Result]], count: int) -> None:
        """start: called in each process with its number; it and the tasks can be pickled."""
        self._start = start
        self._context = _context()
        self._processes: list[tuple[BaseProcess, Connection] | None] = [None] * count
        self._busy: set[int] = set()

    def __len__(self) -> int:
        return len(self._processes)

    def ready(self, worker: int) -> bool:
        return True

    def submit(self, worker: int, task: Task) -> None:
        _, connection = self._processes[worker] or self._begin(worker)
        self._busy.add(worker)
        with contextlib.suppress(OSError):  # It has just died; `wait` will find that.
            connection.send(task)

    def wait(self, seconds: float) -> list[Ended[Result]]:
        at_work = {worker: pair for worker in self._busy if (pair := self._processes[worker])}
        ready = wait([pair[1] for pair in at_work.values()], seconds)
        return [self._end(n, *pair) for n, pair in at_work.items() if pair[1] in ready]

    def close(self) -> None:
        running = [pair[0] for pair in self._processes if pair is not None]
        for process in running:
            process.terminate()
        for process in running:
            process.join(10)
            process.kill()
            process.join()
        self._processes = [None] * len(self)
        self._busy.clear()

    def _begin(self, worker: int) -> tuple[BaseProcess, Connection]:
        ours, theirs = self._context.Pipe()
        # Those that nohup ignores stay ignored.
        ending = [number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN]
        process = self._context.Process(target=_serve, args=(self._start, worker, theirs, ending))
        process.start()
        theirs.close()  # So that reading fails here when the process dies.
        self._processes[worker] = (process, ours)
        return process, ours

    def _end(self, worker: int, process: BaseProcess, connection: Connection) -> Ended[Result]:
        self._busy.discard(worker)
        try:
            died, result = connection.recv()
        except (EOFError, OSError):
            process.join()
            connection.close()
            self._processes[worker] = None
            return Ended(worker=worker, died=_exit_text(process.exitcode))
        return Ended(worker=worker, result=result, died=died)


def _context() -> "SpawnContext | ForkServerContext":
    """Return how to start processes, where a copy of this one, with its threads, would not work."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    # Forked from a process that has imported everything, and has neither threads nor a GPU: the
    # seconds that imports take, and their memory, are spent once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pnpvideo.batch.start"])
    return context


def _serve(
    start: Callable[[int], Callable[[Task], Result]],
    worker: int,
    connection: Connection,
    ending: Sequence[int],
) -> None:
    """Do tasks, in a worker's process, until there are no more. ending: signals that end it."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is handled by the process that gives tasks.
    for number in _ENDING:
        signal.signal(number, _leave if number in ending else signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    do = start(worker)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        answer: tuple[str, Result | None]
        try:
            answer = ("", do(task))
        except Exception as error:
            traceback.print_exc()
            answer = (f"{type(error).__name__}: {error}", None)
        connection.send(answer)


def _leave(number: int, _frame: FrameType | None) -> None:
    # Raise an exception, so that unfinished files are removed, and let nothing interrupt that.
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _exit_text(code: int | None) -> str:
    if code is not None and code < 0:
        more = ", perhaps because memory ran out" if -code == signal.SIGKILL else ""
        return f"it was ended by signal {-code}{more}"
    return f"it ended with code {code}"
