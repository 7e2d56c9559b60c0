"""Jobs in several processes, each with its own pipeline."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import torch
from tqdm import tqdm

from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")

_pipeline: PnPVideoPipeline


def _start(model: str) -> None:
    global _pipeline
    # Many processes with one thread use a CPU better than one process with many threads.
    torch.set_num_threads(1)
    _pipeline = PnPVideoPipeline.from_pretrained(model, torch_dtype=torch.float32)
    _pipeline.set_progress_bar_config(disable=True)


def _work(given: tuple[Callable[[PnPVideoPipeline, Job], Outcome], Job]) -> Outcome:
    work, job = given
    return work(_pipeline, job)


def run_jobs(
    work: Callable[[PnPVideoPipeline, Job], Outcome],
    jobs: Sequence[Job],
    model: str,
    processes: int | None = None,
) -> list[Outcome]:
    """Return `work(pipeline, job)` in the jobs' order, with one process for each CPU core."""
    with ProcessPoolExecutor(
        processes or os.cpu_count(),
        torch.multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(model,),
    ) as pool:
        done = pool.map(_work, [(work, job) for job in jobs])
        return list(tqdm(done, total=len(jobs), unit=" jobs"))
