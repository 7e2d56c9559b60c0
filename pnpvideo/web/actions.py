"""Carry out what visitors ask for with the page's buttons."""

import contextlib
import hashlib
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np

from pnpvideo.errors import InputError, RunError
from pnpvideo.options.settings import ReadSettings
from pnpvideo.pixels.mask import Weights
from pnpvideo.web.controls import label_of
from pnpvideo.web.drawn_mask import resized_nearest
from pnpvideo.web.jobs import MASK, JobKind, JobStore, Visitor, WebJob
from pnpvideo.web.limits import (
    Facts,
    Limits,
    check_size,
    check_source,
    check_texts,
    open_source,
)
from pnpvideo.web.models import Models
from pnpvideo.web.pace import Paces
from pnpvideo.web.runner import Runner, disk_error, settings_of, without_folder
from pnpvideo.web.samples import Sample
from pnpvideo.web.view import write_source_preview, write_thumbnail
from pnpvideo.web.words import WordHelp

_log = logging.getLogger(__name__)

_BLANK = np.full((64, 64, 3), 224, np.uint8)


@dataclass(frozen=True, kw_only=True)
class Service:
    """Everything behind the page: jobs, models, limits and samples.

    previews: the folder for videos of sources.
    """

    store: JobStore
    runner: Runner
    models: Models
    limits: Limits
    samples: list[Sample]
    words: WordHelp = field(default_factory=lambda: WordHelp({}, ()))
    paces: Paces = field(default_factory=Paces)
    previews: Path = Path()
    _submitting: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def look_at(self, source: Path, values: Mapping[str, object]) -> Facts:
        """Describe a source. InputError, without the server's folders, if it cannot be used."""
        known = ReadSettings.model_fields | {"frames": None}
        reading = ReadSettings.of({k: v for k, v in values.items() if k in known})
        try:
            facts = check_source(source, reading, self.limits)
        except (InputError, RunError) as error:
            raise type(error)(without_folder(error, source.parent)) from None
        height, width = facts.first.shape[1:3]
        drawn = self.models.working_size(width, height)
        if drawn is None or drawn == (width, height):
            return facts
        return replace(facts, text=f"{facts.text}; the model draws it at {drawn[0]} x {drawn[1]}")

    def preview(self, source: Path) -> Path | None:
        """Return a video of a clip that every browser plays; None for a picture, and if it cannot
        be made.
        """
        try:
            changed = source.stat().st_mtime_ns
            # Gradio and `delete_uploads` know such folders.
            name = hashlib.sha256(f"preview {source} {changed}".encode()).hexdigest()
            video = self.previews / name / "source.mp4"
            if video.exists():
                return video
            with contextlib.closing(open_source(source, ReadSettings(), self.limits)) as clip:
                if not 1 < len(clip) <= self.limits.frames:
                    return None
                video.parent.mkdir(exist_ok=True)
                write_source_preview(clip, video)
        except (OSError, InputError, RunError) as error:
            _log.warning("a source is shown without a video: %s", error)
            return None
        return video

    def submit(
        self,
        kind: JobKind,
        visitor: Visitor,
        model: str,
        source: Path | None,
        values: Mapping[str, object],
        mask: Weights | None = None,
    ) -> WebJob:
        """Check a job and put it into the queue. InputError if it cannot be run, RunError if it
        cannot be kept.

        source: None if the model generates it from the guidance prompt. mask: drawn on the first
        frame; it moves with the source.
        """
        facts = self._check(kind, model, source, values, mask)
        if mask is not None and facts is not None:
            _, height, width, _ = facts.first.shape
            mask = resized_nearest(mask, width, height)
            values = {**values, "mask_motion": facts.count > 1}
        with self._submitting:
            waiting = self.store.waiting(visitor)
            if waiting >= self.limits.waiting:
                raise InputError(
                    f"{waiting} of your runs are already waiting, which is the limit here; wait "
                    "for one to end, or stop one"
                )
            try:
                job = self.store.add(kind, visitor, model, source, values, mask)
            except (OSError, RunError) as error:
                _log.warning("a run is not kept: %s", error)
                raise RunError(f"the server cannot keep this run: {_reason(error)}") from None
        try:
            write_thumbnail(job.folder, _BLANK if facts is None else facts.first[0])
        except OSError as error:
            self.store.delete(job)
            raise RunError(f"the server cannot keep this run: {_reason(error)}") from None
        self.runner.submit(job)
        return job

    def _check(
        self,
        kind: JobKind,
        model: str,
        source: Path | None,
        values: Mapping[str, object],
        mask: Weights | None,
    ) -> Facts | None:
        """Raise InputError unless a job can be run; describe its source if it has one."""
        generated = "guidance_prompt" in values and kind != "mask"
        if not generated and (source is None or not source.exists()):
            raise InputError("give a picture or a clip first, or pick a sample")
        if model not in self.models.names:
            raise InputError(f"there is no model {model} here")
        if kind == "mask" and mask is None and values.get("mask_from_prompt"):
            raise InputError("this shows a painted part; what a name finds is shown with a result")
        if kind == "mask" and mask is None:
            raise InputError("draw on the first frame over what should be edited")
        if mask is not None and values.get("mask_from_prompt"):
            raise InputError(
                "the part to edit is painted and named; give one of them: clear the mask, or empty "
                f"“{label_of('mask_from_prompt')}”"
            )
        if kind != "mask" and not values.get("prompt"):
            raise InputError(f"write a text into “{label_of('prompt')}”")
        self.words.check_named(model, cast("str | None", values.get("mask_from_prompt")))
        check_texts(values, self.limits)
        drawn = {} if mask is None else {"mask": MASK, "mask_motion": True}
        given = {} if source is None else {"source": str(source)}
        settings = settings_of(kind, {**values, **drawn, **given}, self.limits)
        settings.resolve(self.models.options[model])
        check_size(settings.size, self.limits)
        facts = None if source is None else self.look_at(source, values)
        if mask is not None and facts is not None and mask.all():
            raise InputError(
                "all of the first frame is drawn on; draw only over what should be edited, or "
                "clear the drawing to edit everything"
            )
        return facts

    def stop(self, name: str, visitor: Visitor) -> None:
        """Stop one of the visitor's own jobs."""
        if self.store.get(name, visitor) is not None:
            self.runner.stop(name)


def _reason(error: Exception) -> str:
    """Return why the disk refuses, without names of files."""
    if isinstance(error, OSError):
        return disk_error(error)
    return str(error).partition(" cannot be written: ")[2] or "try again later"
