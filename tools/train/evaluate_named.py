"""Measurement of masks that are found by a thing's name, on held-out scenes."""

from __future__ import annotations

import torch

from pnpvideo.clips.as_clip import as_clip
from pnpvideo.errors import InputError
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.pixels.mask import Area
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.edit import OpenEdit
from pnpvideo.stages.request import Edit, seeded
from pnpvideo.storage.allocate import Storage
from tools.metrics import iou
from tools.tables import Row
from tools.train.by_style import Job
from tools.train.scenes import object_masks, render
from tools.train.tasks import make_example, open_world
from tools.train.translators import side_of

FORMATS = {"found": ".2f", "iou": ".3f"}
"""Columns of the table: the share of things that are found, and intersection over union (0 if not
found).
"""


@torch.no_grad()
def work(pipeline: PnPVideoPipeline, job: Job) -> Row:
    world, side = open_world(job.artwork), side_of(pipeline)
    scene = make_example(world, "cartoon", job.index).source
    front = scene.objects[-1].name
    masks = object_masks(scene, world.artwork, size=side)
    named = [thing.name == front for thing in scene.objects]
    truth = masks[named].sum(0) > 0.5
    clip = as_clip(render(scene, job.style, world.artwork, size=side)[None])
    options = pipeline.model_options.override({"steps": job.steps})
    area = Area(named=f"the {front}", feather=0)
    request = Edit(
        source=clip,
        area=area,
        options=options,
        generators=seeded(job.index),
        batch_size=1,
        storage=Storage(place="memory"),
    )
    row: Row = {"style": job.style, "index": job.index, "name": front, "found": 0.0, "iou": 0.0}
    with OpenEdit(pipeline.model, request, QUIET) as opened:
        opened.invert()
        try:
            mask = opened.find_mask()
        except InputError:
            return row
        assert mask is not None
        ((found,),) = mask.frames.batches(1)
    return row | {"found": 1.0, "iou": iou(found > 127, truth)}
