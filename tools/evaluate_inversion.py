"""How near held-out scenes come when their inversion is sampled back, and by the VAE alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Generator

from pnpvideo.clips.as_clip import as_clip
from pnpvideo.pipeline import PnPVideoPipeline
from pnpvideo.run import check_inversion
from tools.evaluate_scenes import HELD_OUT, SIZE
from tools.evaluation_pool import Row, run_jobs
from tools.scenes import STYLES, random_scene, render

FORMATS = {"autoencoder": ".2f", "reconstruction": ".2f"}
"""Columns of the table: PSNR in dB to the source."""


@dataclass(frozen=True, kw_only=True)
class Job:
    index: int
    style: str
    steps: int


@torch.no_grad()
def work(pipeline: PnPVideoPipeline, job: Job) -> Row:
    scene = random_scene(Generator().manual_seed(HELD_OUT + job.index))
    clip = as_clip(render([scene], job.style, SIZE))
    options = pipeline.model_options.override({"steps": job.steps})
    size = pipeline.working_size(clip)
    trajectory = pipeline.invert(pipeline.encode_clip(clip, size, 1), size, options)
    inversion = check_inversion(pipeline, clip, trajectory, size, options, 1)
    return {"style": job.style, "index": job.index, **asdict(inversion)}


def evaluate_inversion(
    model: str, *, count: int, steps: int, processes: int | None = None
) -> list[Row]:
    """A row for each of `count` held-out scenes in every style."""
    jobs = [
        Job(index=index, style=style, steps=steps) for index in range(count) for style in STYLES
    ]
    return run_jobs(work, jobs, model, processes)
