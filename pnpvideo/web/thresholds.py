"""Make a sheet of results of a source's first frame with different injection thresholds."""

import contextlib
from collections.abc import Iterator
from itertools import product

from pnpvideo.clips.clip import Frames
from pnpvideo.clips.read import read_clip
from pnpvideo.models.model import Model
from pnpvideo.options.edit_method import INJECT
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import ReadSettings, Settings
from pnpvideo.stages.callbacks import Callbacks
from pnpvideo.stages.edit import OpenEdit
from pnpvideo.stages.latents import decode
from pnpvideo.stages.request import Edit, seeded

TAU_F = (0.2, 0.5, 0.8)
TAU_A = (0.0, 0.3, 0.5, 0.8)
CELLS = tuple(product(TAU_F, TAU_A))
"""Row by row: (tau_f, tau_a)."""

Cell = tuple[float, float]


def cells_of(options: PnPOptions) -> tuple[Cell, ...]:
    """Return the thresholds of all cells: the same for all, and those of the options."""
    present = options.tau_f, options.tau_a
    return CELLS if present in CELLS else (*CELLS, present)


def sheet_options(settings: Settings, own: PnPOptions) -> PnPOptions:
    """Return the options of all cells but the thresholds; fast, as a choice needs no more.

    Thresholds are those of method inject, whatever the method of the settings.
    """
    options = settings.resolve(own).at("fast")
    tau_f, tau_a = options.thresholds
    return options.override({"method": INJECT, "tau_f": tau_f, "tau_a": tau_a})


def make_sheet(
    model: Model, settings: Settings, callbacks: Callbacks
) -> Iterator[tuple[int, Frames]]:
    """Make the cells' frames (height, width, 3), each with its number, from one inversion."""
    options = sheet_options(settings, model.defaults)
    with contextlib.ExitStack() as open_things:
        clip = None
        if settings.source is not None:
            how = settings.part(ReadSettings) | {"frames": 1}
            clip = open_things.enter_context(contextlib.closing(read_clip(settings.source, **how)))
        request = Edit(
            source=clip,
            guidance_prompt=settings.guidance_prompt,
            inversion_prompt=settings.inversion_prompt,
            size=settings.size,
            prompt=settings.prompt[0],
            negative_prompt=settings.negative_prompt[0] if settings.negative_prompt else None,
            options=options,
            generators=seeded(settings.seed),
            batch_size=1,
            keep="all",
        )
        opened = open_things.enter_context(OpenEdit(model, request, callbacks))
        for number, (tau_f, tau_a) in enumerate(cells_of(options)):
            here = options.override({"tau_f": tau_f, "tau_a": tau_a})
            result = opened.sample(here, generators=seeded(settings.seed))
            for frames in decode(model, result.latents[0], 1):
                yield number, frames[0]
