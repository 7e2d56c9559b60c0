"""Opening and inverting of the sources to visualize."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from pnpvideo.clips.clip import Clip
from pnpvideo.clips.read import read_clip
from pnpvideo.errors import InputError
from pnpvideo.inside.subject import Subject
from pnpvideo.models.model import Model
from pnpvideo.options.edit_method import INJECT
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import ReadSettings
from pnpvideo.options.subject import SubjectSettings
from pnpvideo.pixels.mask_values import ones_as_white
from pnpvideo.run.opening import read_beside, storage_of
from pnpvideo.stages.callbacks import Callbacks
from pnpvideo.stages.edit import OpenEdit
from pnpvideo.stages.request import Edit, seeded
from pnpvideo.storage.job_folder import JobFolder


def open_clips(
    paths: Sequence[str], settings: ReadSettings, open_things: contextlib.ExitStack
) -> list[Clip]:
    """Read clips of several paths with the same settings; a context closes them at its end."""
    clips = []
    for path in paths:
        clips.append(read_clip(path, **settings.part(ReadSettings)))
        open_things.callback(clips[-1].close)
    return clips


def open_subject(
    model: Model,
    clips: Sequence[Clip],
    settings: SubjectSettings,
    folder: Path,
    open_things: contextlib.ExitStack,
    *,
    prompts: Sequence[str] = (),
    methods: Sequence[object] = (),
    callbacks: Callbacks,
) -> Subject:
    """Invert clips, or let the model generate a source; a context closes them at its end.

    folder: of the results. prompts: the texts to sample each source under. methods: those to sample
    it with besides its own.
    """
    whole = {"start_from": "inverted", "start_level": 1.0}
    options = settings.resolve(model.defaults.override(whole))
    if (options.start_from, options.start_level) != tuple(whole.values()):
        raise InputError(
            "what a model sees is read from all levels of the inverted source; leave "
            "out start_from and start_level"
        )
    job = None if settings.job is None else open_things.enter_context(JobFolder(settings.job))
    control_image = None
    if settings.control_image is not None:
        control_image = ones_as_white(read_beside(settings.control_image, settings, open_things))
    edits = []
    for clip in clips or (None,):
        request = Edit(
            source=clip,
            guidance_prompt=settings.guidance_prompt,
            inversion_prompt=settings.inversion_prompt,
            size=settings.size,
            control_image=control_image,
            prompt=prompts or None,
            negative_prompt=settings.negative_prompt or None,
            options=_inverting(options, methods),
            generators=seeded(settings.seed),
            batch_size=settings.batch_size,
            storage=storage_of(settings, folder),
            job=job,
            keep="all",
        )
        edits.append(open_things.enter_context(OpenEdit(model, request, callbacks)))
        edits[-1].invert()
    return Subject(
        edits=tuple(edits),
        names=tuple(clip.name for clip in clips) or ("generated",),
        options=options,
        batch_size=settings.batch_size,
    )


def _inverting(options: PnPOptions, methods: Sequence[object]) -> PnPOptions:
    """Return options with an inversion that serves these methods, too."""
    if "steerflow" in methods:  # It needs the most precise one.
        return options.override({"method": "steerflow"})
    return options if options.inverts else options.override({"method": INJECT})
