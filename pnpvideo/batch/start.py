"""Start the workers of a batch, in this process, in others, or in a cluster."""

import os
import platform
from collections.abc import Callable, Sequence
from functools import partial

import torch

from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.job import Record, Task
from pnpvideo.batch.worker import Worker
from pnpvideo.batch.workers import Here, Processes, Workers
from pnpvideo.errors import InputError, needs
from pnpvideo.models.quiet import quiet_libraries
from pnpvideo.options.batch import BatchOptions
from pnpvideo.run.opening import Opener


def start_workers(
    folder: BatchFolder, options: BatchOptions, most: int, opener: Opener
) -> Workers[Task, Record | None]:
    """Start one worker in this process, or several in their own processes or in a cluster.

    Those in processes share the GPUs and cores. most: the upper limit. opener: loads their models.
    """
    if options.ray is not None:
        return _actors(folder, options.ray, options.workers, most, opener)
    count = min(worker_count(options), most)
    if count == 1:
        return Here(lambda _: Worker(folder, "0", None, opener).do)
    gpus = torch.cuda.device_count()
    devices = [f"cuda:{number % gpus}" if gpus else None for number in range(count)]
    threads = max(1, min(torch.get_num_threads(), _cores() // count))
    return Processes(partial(_start, folder, devices, threads, opener), count)


def _start(
    folder: BatchFolder,
    devices: Sequence[str | None],
    threads: int,
    opener: Opener,
    number: int,
) -> Callable[[Task], Record | None]:
    torch.set_num_threads(threads)
    quiet_libraries()
    return Worker(folder, str(number), devices[number], opener).do


def _actors(
    folder: BatchFolder, address: str, count: int | None, most: int, opener: Opener
) -> Workers[Task, Record | None]:
    # Ray reads these when it is imported: send no usage statistics, and drop repeated lines.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    with needs("distributed", "--ray"):
        from pnpvideo.batch.actors import Actors
    return Actors(partial(_start_elsewhere, folder, opener), address, count, most)


def _start_elsewhere(
    folder: BatchFolder, opener: Opener, number: int
) -> Callable[[Task], Record | None]:
    if not folder.path.is_dir():
        raise InputError(
            f"{folder.output} does not exist on {platform.node()}; give a folder that all machines "
            "of the cluster have"
        )
    quiet_libraries()
    return Worker(folder, f"{number} on {platform.node()}", None, opener).do


def worker_count(options: BatchOptions) -> int:
    """Return how many workers this machine runs."""
    return options.workers or max(1, torch.cuda.device_count())


def _cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
