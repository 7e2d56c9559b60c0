"""Measurement of the inversion's reconstruction of held-out scenes, and of the VAE's alone."""

from __future__ import annotations

from dataclasses import asdict

import torch

from pnpvideo.clips.as_clip import as_clip
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.run.run import check_inversion
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.edit import OpenEdit
from pnpvideo.stages.request import Edit, seeded
from pnpvideo.storage.allocate import Storage
from tools.tables import Row
from tools.train.by_style import Job
from tools.train.scenes import render
from tools.train.tasks import make_example, open_world
from tools.train.translators import side_of

FORMATS = {"autoencoder": ".2f", "reconstruction": ".2f"}
"""Columns of the table: PSNR in dB to the source."""


@torch.no_grad()
def work(pipeline: PnPVideoPipeline, job: Job) -> Row:
    world = open_world(job.artwork)
    scene = make_example(world, "cartoon", job.index).source
    clip = as_clip(render(scene, job.style, world.artwork, size=side_of(pipeline))[None])
    options = pipeline.model_options.override({"steps": job.steps})
    request = Edit(
        source=clip,
        options=options,
        generators=seeded(job.index),
        batch_size=1,
        storage=Storage(place="memory"),
    )
    with OpenEdit(pipeline.model, request, QUIET) as opened:
        opened.invert()
        inversion = check_inversion(opened)
    return {"style": job.style, "index": job.index, **asdict(inversion)}
