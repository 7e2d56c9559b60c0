"""How near held-out scenes come when their inversion is sampled back, and by the VAE alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from pnpvideo.clips.as_clip import as_clip
from pnpvideo.evaluation.pool import run_jobs
from pnpvideo.evaluation.tables import Row
from pnpvideo.pipeline import PnPVideoPipeline
from pnpvideo.run import check_inversion
from pnpvideo.storage.allocate import Storage
from tools.train.scenes import STYLES, render
from tools.train.tasks import make_example, open_world
from tools.train.translators import side_of

FORMATS = {"autoencoder": ".2f", "reconstruction": ".2f"}
"""Columns of the table: PSNR in dB to the source."""


@dataclass(frozen=True, kw_only=True)
class Job:
    artwork: Path
    index: int
    style: str
    steps: int | None


@torch.no_grad()
def work(pipeline: PnPVideoPipeline, job: Job) -> Row:
    world = open_world(job.artwork)
    scene = make_example(world, "cartoon", job.index).source
    clip = as_clip(render(scene, job.style, world.artwork, size=side_of(pipeline))[None])
    options = pipeline.model_options.override({"steps": job.steps})
    source = pipeline.open_source(clip, options=options, storage=Storage(place="memory"))
    pipeline.invert(source, options, batch_size=1)
    inversion = check_inversion(pipeline, source, options, 1)
    return {"style": job.style, "index": job.index, **asdict(inversion)}


def evaluate_inversion(
    model: str, artwork: Path, *, count: int, steps: int | None, processes: int | None = None
) -> list[Row]:
    """A row for each of `count` held-out scenes in every style."""
    jobs = [
        Job(artwork=artwork, index=index, style=style, steps=steps)
        for index in range(count)
        for style in STYLES
    ]
    return run_jobs(work, jobs, model, processes)
