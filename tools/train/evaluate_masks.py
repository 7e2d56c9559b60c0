"""Measurement of masks on held-out scenes.

Do edits of a part keep the rest, and are they as good as edits of the whole? And do masks that move
with a clip follow their objects?
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pnpvideo.clips.as_clip import as_clip
from pnpvideo.clips.clip import Clip, clip_of_frames
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.pixels.mask import Area
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.edit import OpenEdit, edit
from pnpvideo.stages.request import Edit, seeded
from pnpvideo.storage.allocate import Storage
from tools.metrics import iou, psnr
from tools.tables import Row
from tools.train.appearance import Pixels
from tools.train.evaluate_clips import STYLES as CLIP_STYLES
from tools.train.measure import Judge
from tools.train.motion import frame_times
from tools.train.pool import run_jobs
from tools.train.scenes import STYLES, object_masks, render
from tools.train.tasks import GOAL, Example, make_example, make_moving, open_world
from tools.train.translators import side_of

EDITS = ("line drawing", "cartoon", "colour", "material")
"""Tasks that edit only the front thing."""
FORMATS = {"outside": ".1f", "style": ".3f", "colour": ".3f", "material": ".3f", "class": ".3f"}
"""Columns of the table: PSNR in dB to the source outside the mask, infinite if equal; then the
share of correct attributes inside.
"""
CARRIED = {"iou": ".3f", "least": ".3f", "still": ".3f"}
"""Columns of the table: intersection over union with the thing in the last frame, whether it is at
least 0.85, and the intersection over union of a mask that does not move.
"""
_ENOUGH = 0.85

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Job:
    """Scene `index`. frames: of a clip."""

    artwork: Path
    index: int
    steps: int | None = None
    frames: int = 1


@torch.no_grad()
def work(pipeline: PnPVideoPipeline, job: Job) -> list[Row]:
    """Make each edit of a scene's front thing with a mask and without, from one inversion."""
    world, side = open_world(job.artwork), side_of(pipeline)
    rows: list[Row] = []
    examples = [make_example(world, task, job.index) for task in EDITS]
    for _, group in groupby(examples, key=lambda example: example.style):
        same = list(group)
        scene = same[0].source
        picture = render(scene, same[0].style, world.artwork, size=side)
        mask = object_masks(scene, world.artwork, size=side)[-1] > 0.5
        options = pipeline.model_options.override({"steps": job.steps})
        request = Edit(
            source=as_clip(picture[None]),
            area=Area(mask=_picture_of(mask)),
            prompt=[example.prompt for example in same],
            options=options.override({"blend_radius": 0}),
            generators=seeded(job.index),
            batch_size=1,
            storage=Storage(place="memory"),
        )
        with edit(pipeline.model, request, QUIET) as masked:
            (before,) = next(masked.source.frames(1))
            inverted = masked.source.trajectory
            again = replace(request, source=inverted, area=None, generators=seeded(job.index))
            with edit(pipeline.model, again, QUIET) as whole:
                for method, result in (("mask", masked), ("no mask", whole)):
                    for index, example in enumerate(same):
                        (made,) = result.all_frames(index)
                        row: Row = {"method": method, "task": example.task, "index": job.index}
                        row["outside"] = psnr(made[~mask] / 255, before[~mask] / 255)
                        shown = (made / 255).astype(np.float32)
                        rows.append(row | inside(world.judge, shown, mask, example))
    return rows


def inside(judge: Judge, picture: Pixels, mask: Mask, example: Example) -> Row:
    """Return which attributes of a picture (size, size, 3) are right in a mask, as in FORMATS."""
    true = {style: render(example.target, style, judge.artwork, size=len(mask)) for style in STYLES}
    style = min(STYLES, key=lambda style: np.square(true[style] - picture)[mask].mean())
    # With the true picture outside, only the inside is judged.
    whole = np.where(mask[..., None], picture, true[GOAL])
    row = judge.measure(whole, example.target, GOAL).row()
    looks: Row = {name: row[name] for name in ("colour", "material", "class")}
    return {"style": float(style == GOAL), **looks}


def _picture_of(mask: Mask) -> Clip:
    """Return a mask (height, width) as a clip, as read from a file."""
    return clip_of_frames(np.repeat(np.uint8(255) * mask[None, ..., None], 3, axis=3))


@torch.no_grad()
def work_moving(pipeline: PnPVideoPipeline, job: Job) -> Row:
    """Measure a mask of the front thing that is carried from a clip's first frame to its last."""
    world, side = open_world(job.artwork), side_of(pipeline)
    scene, times = make_moving(world, job.index), frame_times(job.frames)
    style = (*CLIP_STYLES, GOAL)[job.index % 3]
    frames = np.stack([render(scene, style, world.artwork, size=side, time=time) for time in times])
    first, last = (
        object_masks(scene, world.artwork, size=side, time=time)[-1] > 0.5
        for time in (times[0], times[-1])
    )
    area = Area(mask=_picture_of(first), moves=True, feather=0)
    request = Edit(
        source=as_clip(frames),
        area=area,
        options=pipeline.model_options,
        generators=seeded(job.index),
        storage=Storage(place="memory"),
    )
    with OpenEdit(pipeline.model, request, QUIET) as opened:
        moved = opened.find_mask()
        assert moved is not None
        *_, weights = (weights for batch in moved.frames.batches(1) for weights in batch)
    found = iou(weights > 127, last)
    row: Row = {"style": style, "index": job.index, "iou": found, "still": iou(first, last)}
    return row | {"least": float(found >= _ENOUGH)}


def evaluate_edits(
    model: str, artwork: Path, *, count: int, steps: int | None, processes: int | None = None
) -> list[Row]:
    """Return rows of `work` for `count` scenes."""
    jobs = [Job(artwork=artwork, index=index, steps=steps) for index in range(count)]
    return [row for rows in run_jobs(work, jobs, model, processes) for row in rows]


def evaluate_moving(
    model: str, artwork: Path, *, count: int, frames: int, processes: int | None = None
) -> list[Row]:
    """Return rows of `work_moving` for `count` clips."""
    jobs = [Job(artwork=artwork, index=index, frames=frames) for index in range(count)]
    return run_jobs(work_moving, jobs, model, processes)
