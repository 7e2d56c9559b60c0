"""Options tried with one another on sources that are inverted once: results, sheet, plot, table."""

import contextlib
import csv
import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from pnpvideo.atomic_output import atomic_output, folder_above
from pnpvideo.clips.clip import Clip, Frames
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import write_clip
from pnpvideo.errors import InputError
from pnpvideo.evaluation.draw_grid import draw_plot, draw_sheet
from pnpvideo.evaluation.own_measures import OwnMeasures
from pnpvideo.evaluation.pareto import pareto_front
from pnpvideo.inside.draw import Picture
from pnpvideo.inside.open_subject import open_clips, open_subject
from pnpvideo.inside.subject import Subject
from pnpvideo.options.grid import Cell, GridSettings, cells_of, read_axes
from pnpvideo.options.settings import ReadSettings
from pnpvideo.pipeline import PnPVideoPipeline
from pnpvideo.run import choose_device, load_pipeline, told_memory

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A source and what it is translated to. name: for its results."""

    name: str
    source: str | None
    prompts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One cell's result for one prompt of an edit. path: where it is. middle: its middle frame.

    structure: how far its structure is from the source's (0: alike). text: how far it follows its
    text (more is better).
    """

    edit: str
    prompt: str
    cell: Cell
    structure: float
    text: float
    path: Path
    middle: Picture


@dataclass(frozen=True, kw_only=True)
class Point:
    """A cell's means over all edits and prompts. best: no other cell has more text for as little
    structure lost.
    """

    cell: Cell
    structure: float
    text: float
    best: bool


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What a run made."""

    points: tuple[Point, ...]
    sheets: tuple[Path, ...]
    plot: Path
    table: Path


def run_grid(
    settings: GridSettings,
    pipeline: PnPVideoPipeline | None = None,
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> Grid:
    """Try every cell on the settings' source. The rest is as in `run`."""
    device = choose_device(settings) if pipeline is None else pipeline.device
    assert settings.output is not None
    folder = Path(settings.output).expanduser()
    check_folder(folder, overwrite)
    name = "generated"
    if settings.source is not None:  # One that cannot be read costs no model.
        with contextlib.closing(read_clip(settings.source, **settings.part(ReadSettings))) as clip:
            name = Path(clip.name).stem
    edit = Edit(name=name, source=settings.source, prompts=settings.prompt)
    pipeline = pipeline or load_pipeline(settings, device)
    pipeline.set_progress_bar_config(disable=quiet)
    with told_memory(device):
        return try_edits([edit], settings, pipeline, folder)


def check_folder(folder: Path, overwrite: bool) -> None:
    """InputError unless results can go to a folder: it is new, empty or a grid's."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; choose another name for the folder")
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise InputError(f"{folder} exists and is not empty; choose another or --overwrite")
        if not (folder / "grid.csv").exists():
            raise InputError(f"{folder} holds no grid, and is not replaced; choose another folder")


def try_edits(
    edits: Sequence[Edit], settings: GridSettings, pipeline: PnPVideoPipeline, folder: Path
) -> Grid:
    """Try every cell on every edit, one inversion each, and draw what came out."""
    axes = read_axes(settings.grid)
    tried: list[Tried] = []
    sheets: list[Path] = []
    for edit in edits:
        with contextlib.ExitStack() as open_things:
            paths = [] if edit.source is None else [edit.source]
            clips = open_clips(paths, settings, open_things)
            subject = open_subject(pipeline, clips, settings, folder_above(folder), open_things)
            some = list(_try_cells(edit, subject, clips, settings, folder))
            source = _middle(subject.frames(subject.sources[0]))
        tried += some
        for number, prompt in enumerate(edit.prompts, 1):
            of_prompt = [one for one in some if one.prompt == prompt]
            several = len(edits) > 1 or len(edit.prompts) > 1
            sheets.append(folder / (f"sheet-{edit.name}-{number}.png" if several else "sheet.png"))
            _write(
                draw_sheet(of_prompt, points_of(of_prompt), source, axes, settings.side), sheets[-1]
            )
    points = points_of(tried)
    plot, table = folder / "plot.png", folder / "grid.csv"
    _write(draw_plot(points), plot)
    with atomic_output(table, folder=False, overwrite=True) as part:
        part.write_text(_table(tried), encoding="utf-8")
    return Grid(points=tuple(points), sheets=tuple(sheets), plot=plot, table=table)


@torch.no_grad()
def _try_cells(
    edit: Edit,
    subject: Subject,
    clips: Sequence[Clip],
    settings: GridSettings,
    folder: Path,
) -> Iterator[Tried]:
    pipeline, (source,), size = subject.pipeline, subject.sources, subject.batch_size
    negatives = settings.negative_prompt or None
    prompts = pipeline.prompts(edit.prompts, negatives, clip_skip=subject.options.clip_skip)
    measures = OwnMeasures(
        subject.network,
        pipeline.layers,
        pipeline.schedule(subject.options),
        pipeline.encode_texts([""]),
        batch_size=size,
    )
    for cell in cells_of(read_axes(settings.grid)):
        options = subject.options.override(cell.options)
        generator = torch.Generator().manual_seed(settings.seed)
        latents = pipeline.sample(source, prompts, options, generator, batch_size=size)
        for number, (prompt, one) in enumerate(zip(edit.prompts, latents, strict=True), 1):
            frames = np.concatenate(list(pipeline.finish(one, source, options.blend_radius, size)))
            ending = "/" if len(frames) > 1 else ".png"
            name = f"{edit.name}-{number}" if len(edit.prompts) > 1 else edit.name
            path = write_clip([frames], f"{folder}/{cell.name}/{name}{ending}", overwrite=True)
            text = prompts.targets[number - 1 : number]
            yield Tried(
                edit=edit.name,
                prompt=prompt,
                cell=cell,
                structure=measures.structure(one, source.trajectory.clean),
                text=measures.text(one, text),
                path=path,
                middle=_middle(frames),
            )
        _log.info("%s is done", cell.name)


def points_of(tried: Sequence[Tried]) -> list[Point]:
    """The means of each cell, in the order in which they were tried."""
    by_cell: dict[str, list[Tried]] = {}
    for one in tried:
        by_cell.setdefault(one.cell.name, []).append(one)
    structure = [fmean(one.structure for one in some) for some in by_cell.values()]
    text = [fmean(one.text for one in some) for some in by_cell.values()]
    rows = zip(by_cell.values(), structure, text, pareto_front(structure, text), strict=True)
    return [Point(cell=x[0].cell, structure=s, text=t, best=b) for x, s, t, b in rows]


def _middle(frames: Frames) -> Picture:
    picture: Picture = frames[len(frames) // 2]
    return picture


def _write(picture: Picture, path: Path) -> None:
    write_clip([picture[None]], path, overwrite=True)


def _table(tried: Sequence[Tried]) -> str:
    """CSV: a line for each result."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    names = list(tried[0].cell.options)
    writer.writerow(["edit", "prompt", *names, "structure", "text", "result"])
    for one in tried:
        values = [str(one.cell.options[name]) for name in names]
        measured = [repr(one.structure), repr(one.text)]
        writer.writerow([one.edit, one.prompt, *values, *measured, str(one.path)])
    return text.getvalue()
