"""Run workers as actors of a Ray cluster, each with a GPU if the cluster has any."""

import logging
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, Generic

import ray
from ray.exceptions import RayError, RayTaskError

from pnpvideo.batch.workers import Ended, Result, Task
from pnpvideo.errors import InputError, RunError

_STORE = 2**27  # bytes of shared memory of a local cluster; nothing large is passed through it
_LONG = 30.0  # seconds without any worker after which a warning is logged
_ANSWER = 10.0  # seconds within which a cluster must answer
_FAILURES = 3
"""Give up after so many actors in a row have ended before they could work."""

_log = logging.getLogger(__name__)


class Actors(Generic[Task, Result]):
    """Workers in a Ray cluster. They end when this process does, however it ends.

    A worker that died is started again wherever there is room; the others continue meanwhile.
    """

    def __init__(
        self,
        start: Callable[[int], Callable[[Task], Result]],
        address: str,
        count: int | None,
        most: int,
    ) -> None:
        """start: called in each actor with its number; it and the tasks can be pickled.
        address: see `connect`. count: the number of workers; None: one for each GPU, or without
        GPUs one for each machine. most: the upper limit in any case.
        InputError if there is no such cluster.
        """
        connect(address, count or 1)
        gpus = int(ray.cluster_resources().get("GPU", 0))
        count = min(count or gpus or len(ray.nodes()), most)
        self._start = start
        self._make = ray.remote(num_cpus=1, num_gpus=int(gpus > 0), scheduling_strategy="SPREAD")(
            _Actor
        ).remote
        self._actors: list[Any] = [None] * count
        self._begun: dict[Any, int] = {}
        self._tasks: dict[Any, int] = {}
        self._failures = 0
        self._since = time.monotonic()

    def __len__(self) -> int:
        return len(self._actors)

    def ready(self, worker: int) -> bool:
        if self._actors[worker] is None:
            self._actors[worker] = self._make()
            self._begun[self._actors[worker].begin.remote(self._start, worker)] = worker
        return worker not in self._begun.values()

    def submit(self, worker: int, task: Task) -> None:
        self._tasks[self._actors[worker].do.remote(task)] = worker

    def wait(self, seconds: float) -> list[Ended[Result]]:
        """Return the tasks that have ended. RunError if no actor can begin."""
        done, _ = ray.wait([*self._begun, *self._tasks], timeout=seconds)
        self._warn_of_waiting()
        ended = []
        for reference in done:
            if reference in self._begun:
                self._take_up(reference)
            else:
                ended.append(self._end(reference))
        return ended

    def close(self) -> None:
        for actor in self._actors:
            if actor is not None:
                ray.kill(actor)
        ray.shutdown()

    def _take_up(self, reference: Any) -> None:
        """Handle that an actor has begun, or has failed to begin."""
        worker = self._begun.pop(reference)
        try:
            ray.get(reference)
            self._failures = 0
        except RayTaskError as error:
            if isinstance(error.cause, InputError | RunError):
                raise error.cause from None
            self._fail(worker, _ray_error_text(error))
        except RayError as error:
            self._fail(worker, _ray_error_text(error))

    def _fail(self, worker: int, why: str) -> None:
        self._drop(worker)
        self._failures += 1
        if self._failures == _FAILURES:
            raise RunError(f"no worker can begin in the Ray cluster: {why}")

    def _end(self, reference: Any) -> Ended[Result]:
        worker = self._tasks.pop(reference)
        try:
            return Ended(worker=worker, result=ray.get(reference))
        except RayTaskError as error:
            return Ended(worker=worker, died=_ray_error_text(error))
        except RayError as error:
            self._drop(worker)
            return Ended(worker=worker, died=_ray_error_text(error))

    def _drop(self, worker: int) -> None:
        ray.kill(self._actors[worker])  # It may only have been unreachable.
        self._actors[worker] = None

    def _warn_of_waiting(self) -> None:
        now = time.monotonic()
        if self._tasks or not self._begun:
            self._since = now
        elif now - self._since > _LONG:
            self._since = now
            _log.warning("no worker has begun in the Ray cluster yet; it may be full; waiting")


class _Actor:
    """A worker's process."""

    def begin(self, start: Callable[[int], Callable[[Task], Result]], worker: int) -> None:
        self._do: Callable[[Any], Any] = start(worker)

    def do(self, task: Any) -> Any:
        return self._do(task)


def connect(address: str, count: int) -> None:
    """Join a Ray cluster. InputError if there is none at the address.

    address: "host:port", "auto", or "local" for a cluster that is started here for `count` workers
    and ends with this process.
    """
    own: dict[str, Any] = {}
    if address == "local":
        cores = max(count, os.cpu_count() or 1)
        own = {
            "num_cpus": cores,
            "object_store_memory": _STORE,
            "include_dashboard": False,
            # By default Ray gives its workers the lowest priority.
            "_system_config": {"worker_niceness": 0},
        }
    elif address != "auto" and not _answers(address):  # Ray would try for minutes.
        raise _no_cluster(address, "nothing answers there")
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, log_to_driver=False, configure_logging=False, **own)
    except (RayError, OSError, ValueError, RuntimeError) as error:
        raise _no_cluster(address, str(error).strip().split("\n")[0]) from None
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray's handler would hide that a run was stopped.


def _answers(address: str) -> bool:
    host, _, port = address.rpartition("//")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _no_cluster(address: str, why: str) -> InputError:
    return InputError(
        f"there is no Ray cluster at {address!r} ({why}); give host:port, auto on one of its "
        "machines, or local"
    )


def _ray_error_text(error: RayError) -> str:
    """Return in a sentence why an actor gave no result."""
    if isinstance(error, RayTaskError):
        return f"{type(error.cause).__name__}: {error.cause}"
    text = str(error).strip()
    # The reason is between numbers and guesses; after a traceback, the error is the last line.
    reasons = re.findall(r"The actor (?:is dead|died) because [^.]*", text)
    return reasons[-1] if reasons else text.split("\n")[-1]
