"""Measurement of masks that are found by a thing's name, on held-out scenes.

Does the mask of one thing hold another one? And are names of things that a scene does not show
refused?
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pnpvideo.catalogue.known_words import KnownWords
from pnpvideo.clips.as_clip import as_clip
from pnpvideo.errors import InputError
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.pixels.mask import Area
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.edit import OpenEdit
from pnpvideo.stages.mask import find_mask
from pnpvideo.stages.request import Edit, seeded
from pnpvideo.storage.allocate import Storage
from tools.metrics import iou
from tools.tables import Row
from tools.train.by_style import Job
from tools.train.layout import Scene
from tools.train.pool import run_jobs
from tools.train.scenes import STYLES, object_masks, random_scene, render
from tools.train.tasks import HELD_OUT, World, open_world
from tools.train.translators import side_of

FORMATS = {"found": ".2f", "iou": ".2f", "holds": ".2f", "cover": ".2f"}
"""Columns of the table: the share of names that are not refused, intersection over union, whether
more than half of another thing is in the mask, and the share of the picture in it.
"""
_SEEDS = HELD_OUT + 500_000
_MOST = 3
_HOLDS = 0.5

Mask = npt.NDArray[np.bool_]


@torch.no_grad()
def work(pipeline: PnPVideoPipeline, job: Job) -> list[Row]:
    """Find each thing of a scene by its name, and one thing that it does not show."""
    world, side = open_world(job.artwork), side_of(pipeline)
    scene = make_scene(world, job.index)
    truth = object_masks(scene, world.artwork, size=side) > 0.5
    options = pipeline.model_options.override({"steps": job.steps, "start_from": "noised"})
    request = Edit(
        source=as_clip(render(scene, job.style, world.artwork, size=side)[None]),
        options=options,
        generators=seeded(job.index),
        batch_size=1,
        storage=Storage(place="memory"),
    )
    shown = [thing.name for thing in scene.objects]
    rows: list[Row] = []
    with OpenEdit(pipeline.model, request, QUIET) as opened:
        opened.invert()
        for number, name in enumerate([*shown, _absent(pipeline.known_words, shown, job.index)]):
            is_shown = number < len(shown)
            row: Row = {
                "names": f"{len(shown)} things" if is_shown else "not shown",
                "style": job.style,
                "index": job.index,
                "name": name,
            }
            found = _find(pipeline, opened, name)
            rows.append(row | _measures(found, truth, number if is_shown else None))
    return rows


def make_scene(world: World, index: int) -> Scene:
    """Return held-out scene `index`, of 1, 2 or 3 different things by turns."""
    generator = np.random.default_rng(_SEEDS + index)
    count = 1 + index % _MOST
    while True:
        scene = random_scene(generator, world.known)
        if len({thing.name for thing in scene.objects}) == len(scene.objects) == count:
            return scene


def _absent(known: KnownWords | None, shown: list[str], index: int) -> str:
    """Return a thing that the model knows and a scene does not show."""
    assert known is not None
    words = [entry.word for entry in known.kinds["things"] if entry.word not in shown]
    return words[int(np.random.default_rng(_SEEDS + index).integers(len(words)))]


def _find(pipeline: PnPVideoPipeline, opened: OpenEdit, name: str) -> Mask | None:
    """Return where the mask of a name is (height, width); None if it is refused."""
    opened.source.area = Area(named=f"the {name}", feather=0)
    try:
        mask = find_mask(pipeline.model, opened.source, opened.request.options, batch_size=1)
    except InputError:
        return None
    assert mask is not None
    with contextlib.closing(mask.frames) as frames:
        ((found,),) = frames.batches(1)
    return np.asarray(found > 127)


def _measures(found: Mask | None, truth: Mask, own: int | None) -> Row:
    """Return the columns of FORMATS. own: the number of the thing that is named; None: no thing."""
    nothing = float("nan")
    if found is None:
        return {"found": 0.0, "iou": nothing, "holds": nothing, "cover": nothing}
    others = [mask for number, mask in enumerate(truth) if number != own and mask.any()]
    held = [float((found & mask).sum() / mask.sum()) for mask in others]
    return {
        "found": 1.0,
        "iou": nothing if own is None else iou(found, truth[own]),
        "holds": float(max(held) > _HOLDS) if held and own is not None else nothing,
        "cover": float(found.mean()),
    }


def evaluate_named(
    model: str, artwork: Path, *, count: int, steps: int | None, processes: int | None = None
) -> list[Row]:
    """Return rows of `work` for `count` scenes, in the styles by turns."""
    jobs = [
        Job(
            artwork=artwork,
            index=index,
            style=STYLES[index // _MOST % len(STYLES)],
            steps=steps,
        )
        for index in range(count)
    ]
    return [row for rows in run_jobs(work, jobs, model, processes) for row in rows]
