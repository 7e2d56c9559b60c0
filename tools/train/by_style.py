"""A measurement of held-out scenes, each drawn in every style."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from tools.tables import Row
from tools.train.pool import run_jobs
from tools.train.scenes import STYLES


@dataclass(frozen=True, kw_only=True)
class Job:
    artwork: Path
    index: int
    style: str
    steps: int | None


def measure_styles(
    work: Callable[[PnPVideoPipeline, Job], Row],
    model: str,
    artwork: Path,
    *,
    count: int,
    steps: int | None,
    processes: int | None = None,
) -> list[Row]:
    """Return a row of `work` for each of `count` held-out scenes in every style."""
    jobs = [
        Job(artwork=artwork, index=index, style=style, steps=steps)
        for index in range(count)
        for style in STYLES
    ]
    return run_jobs(work, jobs, model, processes)
