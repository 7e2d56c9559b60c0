"""Work for several workers: in this process, or in processes of their own that may die.

`actors` has those of a cluster.
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
from typing import Generic, Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
AnyTask = TypeVar("AnyTask", contravariant=True)
AnyResult = TypeVar("AnyResult", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Ended(Generic[AnyResult]):
    """A worker has ended its task. died: why it gave no result, '' where it did."""

    worker: int
    result: AnyResult | None = None
    died: str = ""


class Workers(Protocol[AnyTask, AnyResult]):
    """Workers by their number, each of which does one task at a time."""

    def __len__(self) -> int: ...

    def ready(self, worker: int) -> bool:
        """Whether a worker without a task can begin one now. One that has died is replaced."""

    def submit(self, worker: int, task: AnyTask) -> None:
        """Give a task to a worker that is ready."""

    def wait(self, seconds: float) -> "Sequence[Ended[AnyResult]]":
        """The tasks that have ended, if any does before so many seconds are over."""

    def close(self) -> None:
        """End all workers, those at work too."""


class Here(Generic[Task, Result]):
    """One worker, which is this process: it works while it is waited for."""

    def __init__(self, start: Callable[[int], Callable[[Task], Result]]) -> None:
        """start: makes, of a worker's number, what does its tasks."""
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
    """A process for each worker. They end when this one does, however it ends."""

    def __init__(self, start: Callable[[int], Callable[[Task], Result]], count: int) -> None:
        """start: is called in each process with its number; it and the tasks can be pickled."""
        self._start = start
        # A copy of a process that has threads, or a GPU, would not work.
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[tuple[BaseProcess, Connection] | None] = [None] * count
        self._busy: set[int] = set()

    def __len__(self) -> int:
        return len(self._processes)

    def ready(self, worker: int) -> bool:
        return True

    def submit(self, worker: int, task: Task) -> None:
        _, connection = self._processes[worker] or self._begin(worker)
        self._busy.add(worker)
        with contextlib.suppress(OSError):  # It has just died, which `wait` finds.
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
        process = self._context.Process(target=_serve, args=(self._start, worker, theirs))
        process.start()
        theirs.close()  # So that its end is seen here when it dies.
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
            return Ended(worker=worker, died=_told(process.exitcode))
        return Ended(worker=worker, result=result, died=died)


def _serve(
    start: Callable[[int], Callable[[Task], Result]], worker: int, connection: Connection
) -> None:
    """What a process does until there are no more tasks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that gives tasks.
    signal.signal(signal.SIGTERM, _leave)
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
    # An exception, so that what is half written is removed.
    sys.exit(128 + number)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _told(code: int | None) -> str:
    if code is not None and code < 0:
        more = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        return f"it was ended by signal {-code}{more}"
    return f"it ended with code {code}"
