"""Pictures of what happens inside a network, from file to file."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from pnpvideo.catalogue.ask_model import texts_of, warn_of_unknown
from pnpvideo.clips.clip import Frames
from pnpvideo.clips.write import SINGLE_SUFFIXES, check_output, write_clip
from pnpvideo.errors import InputError
from pnpvideo.files.atomic_output import claimed, folder_above
from pnpvideo.inside.draw import Cell, Picture, sheet
from pnpvideo.inside.open_subject import open_clips, open_subject
from pnpvideo.inside.show_correspondence import show_correspondence
from pnpvideo.inside.show_layers import show_attention, show_features
from pnpvideo.inside.show_prediction import show_prediction
from pnpvideo.inside.show_words import show_words
from pnpvideo.inside.subject import Strip, Subject
from pnpvideo.options.visualize import VisualizeSettings
from pnpvideo.run.opening import (
    Loaded,
    choose_device,
    known_words,
    memory_errors_in_one_line,
    model_of,
    open_model,
)
from pnpvideo.run.outputs import check_apart
from pnpvideo.stages.callbacks import Callbacks, bars_of

_log = logging.getLogger(__name__)

_MOST = 8  # pictures of a clip on one sheet


@torch.no_grad()
def visualize(
    settings: VisualizeSettings,
    pipeline: Loaded | None = None,
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Write what the settings ask to see. The rest is as in `run`."""
    with contextlib.ExitStack() as open_things:
        device = choose_device(settings) if pipeline is None else pipeline.device
        paths = [path for path in (settings.source, *settings.beside) if path is not None]
        known = known_words(settings, pipeline, settings.guidance_prompt)
        clips = open_clips(paths, settings, open_things)
        output = check_output(settings.output, overwrite)
        for path in paths:
            check_apart(output, "source", path)
        open_things.enter_context(claimed(output))
        warn_of_unknown(texts_of(settings), known)
        model = open_model(settings, device) if pipeline is None else model_of(pipeline)
        if model.window is not None:
            raise InputError(
                "visualize shows what models of images see, frame by frame, and this is a model of "
                "videos; give a model of images"
            )
        with memory_errors_in_one_line(device):
            subject = open_subject(
                model,
                clips,
                settings,
                folder_above(output),
                open_things,
                prompts=settings.prompt if settings.show == "prediction" else (),
                callbacks=Callbacks(bars=bars_of(quiet=quiet)),
            )
            strips = _show(subject, settings)
            if output.suffix.lower() in SINGLE_SUFFIXES:
                frames = iter([_still(subject, strips, settings.side)])
            else:
                frames = _moving(subject, strips, settings.side)
        timing = clips[0].timing if clips else None
        write_clip(
            (frame[None] for frame in frames), settings.output, timing=timing, overwrite=overwrite
        )
    return output


def _show(subject: Subject, settings: VisualizeSettings) -> list[Strip]:
    at, layers, prompts = settings.at, settings.layer, settings.prompt
    if settings.show == "features":
        return show_features(subject, layers, at)
    if settings.show == "attention":
        return show_attention(subject, layers, at)
    if settings.show == "prediction":
        return show_prediction(subject, prompts, settings.seed, at)
    if settings.show == "correspondence":
        return show_correspondence(subject, at)
    return show_words(subject, prompts or (settings.inversion_prompt,))


def _still(subject: Subject, strips: Sequence[Strip], side: int) -> Picture:
    """Draw frames of all sources below one another, on one sheet for all rows of the strips."""
    each = max(1, _MOST // len(subject.sources))
    frames = [subject.frames(source) for source in subject.sources]
    chosen = [_some(len(one), each) for one in frames]
    if any(len(some) < len(one) for some, one in zip(chosen, frames, strict=True)):
        _log.info("the picture shows %d frames of each clip; write a video to see all", each)
    places = [(source, frame) for source, some in enumerate(chosen) for frame in some]
    return _sheet(subject, strips, frames, places, side)


def _moving(subject: Subject, strips: Sequence[Strip], side: int) -> Iterator[Picture]:
    """Draw a sheet for each frame, up to the end of the shortest source."""
    frames = [subject.frames(source) for source in subject.sources]
    for frame in range(min(map(len, frames))):
        places = [(source, frame) for source in range(len(frames))]
        yield _sheet(subject, strips, frames, places, side)


def _sheet(
    subject: Subject,
    strips: Sequence[Strip],
    frames: Sequence[Frames],
    places: Sequence[tuple[int, int]],
    side: int,
) -> Picture:
    """Draw one sheet. places: (source, frame) of its rows, for each row of strips."""
    kinds = list(dict.fromkeys(strip.row for strip in strips))
    columns = list(dict.fromkeys(strip.column for strip in strips))
    by_place = {(strip.row, strip.column): strip.pictures for strip in strips}
    rows, names = [], []
    for kind in kinds:
        for source, frame in places:
            found = [by_place.get((kind, column)) for column in columns]
            cells = [None if one is None else Cell(picture=one[source][frame]) for one in found]
            rows.append([Cell(picture=frames[source][frame]), *cells])
            names.append(_name(subject, kind, source, frame, len(frames[source])))
    return sheet(rows, row_names=names, column_names=["source", *columns], side=side)


def _name(subject: Subject, kind: str, source: int, frame: int, count: int) -> str:
    parts = [kind]
    if len(subject.sources) > 1:
        parts.append(subject.names[source])
    if count > 1:
        parts.append(f"frame {frame}")
    return ", ".join(part for part in parts if part)


def _some(count: int, most: int) -> list[int]:
    """Return the numbers of at most `most` frames, evenly from the first to the last."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})
