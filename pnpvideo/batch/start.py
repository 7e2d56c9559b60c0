"""How a worker of a batch is started, in whichever process it is to be."""

import os
from collections.abc import Callable, Sequence
from functools import partial

import torch

from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.job import Job, Record
from pnpvideo.batch.worker import Worker
from pnpvideo.models.quiet import quiet_libraries
from pnpvideo.workers import Here, Processes, Workers


def start_workers(folder: BatchFolder, count: int) -> Workers[Job, Record | None]:
    """One in this process, or several in processes of their own, which share GPUs and cores."""
    if count == 1:
        return Here(lambda _: Worker(folder, "0", None).do)
    gpus = torch.cuda.device_count()
    devices = [f"cuda:{number % gpus}" if gpus else None for number in range(count)]
    threads = max(1, min(torch.get_num_threads(), _cores() // count))
    return Processes(partial(_start, folder, devices, threads), count)


def _start(
    folder: BatchFolder, devices: Sequence[str | None], threads: int, number: int
) -> Callable[[Job], Record | None]:
    torch.set_num_threads(threads)
    quiet_libraries()
    return Worker(folder, str(number), devices[number]).do


def _cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
