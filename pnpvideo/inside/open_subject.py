"""Opens and inverts what is looked into."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import torch

from pnpvideo.clips.clip import Clip
from pnpvideo.clips.read import read_clip
from pnpvideo.inside.subject import Subject
from pnpvideo.options.settings import ReadSettings
from pnpvideo.options.subject import SubjectSettings
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.run.opening import read_beside, storage_of
from pnpvideo.storage.job_folder import JobFolder


def open_clips(
    paths: Sequence[str], settings: ReadSettings, open_things: contextlib.ExitStack
) -> list[Clip]:
    """Clips of several paths, read alike, closed at the end of a context."""
    clips = []
    for path in paths:
        clips.append(read_clip(path, **settings.part(ReadSettings)))
        open_things.callback(clips[-1].close)
    return clips


def open_subject(
    pipeline: PnPVideoPipeline,
    clips: Sequence[Clip],
    settings: SubjectSettings,
    folder: Path,
    open_things: contextlib.ExitStack,
) -> Subject:
    """Inverts clips, or lets the model make a source, which a context closes at its end.

    folder: where results go.
    """
    options = settings.resolve(pipeline.model_options)
    job = None if settings.job is None else open_things.enter_context(JobFolder(settings.job))
    control_image = None
    if settings.control_image is not None:
        control_image = read_beside(settings.control_image, settings, open_things)
    sources = []
    for clip in clips or (None,):
        source = pipeline.open_source(
            clip,
            control_image=control_image,
            guidance_prompt=settings.guidance_prompt,
            inversion_prompt=settings.inversion_prompt,
            size=settings.size,
            # A file keeps the levels that a run reads, and here all are.
            options=options.override({"tau_f": 1.0}),
            generator=torch.Generator().manual_seed(settings.seed),
            batch_size=settings.batch_size,
            storage=storage_of(settings, folder),
            job=job,
        )
        open_things.callback(source.close)
        open_things.callback(source.trajectory.close)
        pipeline.invert(source, options, batch_size=settings.batch_size)
        sources.append(source)
    return Subject(
        pipeline=pipeline,
        sources=tuple(sources),
        names=tuple(clip.name for clip in clips) or ("generated",),
        options=options,
        batch_size=settings.batch_size,
    )
