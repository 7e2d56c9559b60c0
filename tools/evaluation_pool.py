"""Evaluation jobs in several processes, each with its own pipeline, and the tables they fill."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from pnpvideo.pipeline import PnPVideoPipeline

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")
Row = dict[str, Any]

_pipeline: PnPVideoPipeline


def _start(model: str) -> None:
    global _pipeline
    # One thread a process uses a CPU better than many threads of one.
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
    """Outcomes of `work(pipeline, job)` in the jobs' order, from one process for each CPU core."""
    with ProcessPoolExecutor(
        processes or os.cpu_count(),
        torch.multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(model,),
    ) as pool:
        done = pool.map(_work, [(work, job) for job in jobs])
        return list(tqdm(done, total=len(jobs), unit=" jobs"))


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """One line for each row; all have the same names."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def make_table(rows: Sequence[Row], groups: Sequence[str], formats: dict[str, str]) -> str:
    """Means of the columns in `formats` (name: format) by the values of `groups`, in Markdown.

    With several groups, the last one also gets a line "all".
    """
    lines = [
        f"| {' | '.join((*groups, *formats))} |",
        f"|{'---|' * len(groups)}{'--:|' * len(formats)}",
    ]

    def add(names: tuple[str, ...], some: Sequence[Row]) -> None:
        means = [format(fmean(row[name] for row in some), how) for name, how in formats.items()]
        lines.append(f"| {' | '.join((*names, *means))} |")

    *outer, inner = groups
    for heads in dict.fromkeys(tuple(row[name] for name in outer) for row in rows):
        mine = [row for row in rows if tuple(row[name] for name in outer) == heads]
        for value in dict.fromkeys(row[inner] for row in mine):
            add((*heads, value), [row for row in mine if row[inner] == value])
        if outer:
            add((*heads, "all"), mine)
    return "\n".join(lines) + "\n"
