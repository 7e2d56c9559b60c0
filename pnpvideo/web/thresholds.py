"""A sheet that shows what the two thresholds of injection do to the first frame of a source."""

from collections.abc import Iterator
from itertools import product

import torch

from pnpvideo.clips.clip import Frames
from pnpvideo.clips.read import read_clip
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import ReadSettings, Settings
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline

TAU_F = (0.2, 0.5, 0.8)
TAU_A = (0.0, 0.3, 0.5, 0.8)
CELLS = tuple(product(TAU_F, TAU_A))
"""Row by row: (tau_f, tau_a)."""


def sheet_options(settings: Settings, own: PnPOptions) -> PnPOptions:
    """Those of the one inversion that serves all cells; fast, as a choice needs no more."""
    return settings.resolve(own).at("fast").override({"tau_f": 1.0, "tau_a": 1.0})


@torch.no_grad()
def make_sheet(pipeline: PnPVideoPipeline, settings: Settings) -> Iterator[tuple[int, Frames]]:
    """Each cell's number and its frame (height, width, 3), as they are made."""
    options = sheet_options(settings, pipeline.model_options)
    how = settings.part(ReadSettings) | {"frames": 1}
    clip = None if settings.source is None else read_clip(settings.source, **how)
    try:
        source = pipeline.open_source(
            clip,
            guidance_prompt=settings.guidance_prompt,
            inversion_prompt=settings.inversion_prompt,
            size=settings.size,
            options=options,
            generator=torch.Generator().manual_seed(settings.seed),
            batch_size=1,
        )
        prompts = pipeline.prompts(
            settings.prompt[0],
            settings.negative_prompt[0] if settings.negative_prompt else None,
            clip_skip=options.clip_skip,
            weights=options.prompt_weights,
        )
        for number, (tau_f, tau_a) in enumerate(CELLS):
            generator = torch.Generator().manual_seed(settings.seed)
            here = options.override({"tau_f": tau_f, "tau_a": tau_a})
            latents = pipeline.sample(source, prompts, here, generator, batch_size=1)
            for frames in pipeline.decode(latents[0], 1):
                yield number, frames[0]
        source.close()
        source.trajectory.close()
    finally:
        if clip is not None:
            clip.close()
