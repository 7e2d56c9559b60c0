"""Grid search of options on sources that are inverted once: results, sheet, plot, table."""

import contextlib
import csv
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from pnpvideo.batch.job import stamp_of
from pnpvideo.catalogue.ask_model import texts_of, warn_of_unknown
from pnpvideo.clips.clip import Frames
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import write_clip
from pnpvideo.errors import InputError
from pnpvideo.files.atomic_output import atomic_output, folder_above
from pnpvideo.grid.draw_grid import draw_plot, draw_sheet
from pnpvideo.grid.edits import GridEdit
from pnpvideo.grid.grid_folder import GridFolder, Measured, Tried, read_middle
from pnpvideo.grid.judge import Judge
from pnpvideo.grid.own_measures import OwnMeasures
from pnpvideo.inside.draw import Picture
from pnpvideo.inside.open_subject import open_clips, open_subject
from pnpvideo.models.model import Model
from pnpvideo.options.declared import Lifetime
from pnpvideo.options.edit_method import INJECT
from pnpvideo.options.grid import GridCell, GridSettings, cells_of, read_axes, split_place
from pnpvideo.options.paths import expanded
from pnpvideo.options.settings import ReadSettings
from pnpvideo.run.opening import (
    Loaded,
    choose_device,
    known_words,
    memory_errors_in_one_line,
    model_of,
    open_model,
)
from pnpvideo.stages.callbacks import Callbacks, bars_of
from pnpvideo.stages.edit import EditResult
from pnpvideo.stages.request import seeded
from pnpvideo.storage import fingerprint

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A cell's means over all edits and prompts. best: whether it is on the Pareto front."""

    cell: GridCell
    structure: float
    text: float
    best: bool

    @property
    def name(self) -> str:
        return self.cell.name


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The files and values that a run produced."""

    points: tuple[Point, ...]
    sheets: tuple[Path, ...]
    plot: Path
    tables: tuple[Path, ...]


def run_grid(
    settings: GridSettings,
    pipeline: Loaded | None = None,
    *,
    edits: Sequence[GridEdit] = (),
    overwrite: bool = False,
    quiet: bool = False,
) -> Grid:
    """Try every cell on the edits, or on the settings' source. Other parameters are as in `run`.

    Results of a run with the same settings in the folder are kept: a stopped grid is resumed, and
    values can be added. If one of several edits cannot be made, it is left out with a warning.
    """
    device = choose_device(settings) if pipeline is None else pipeline.device
    folder = GridFolder(expanded(settings.output))
    folder.check(_made_with(settings), overwrite=overwrite)
    edits = edits or [_own_edit(settings)]
    known = known_words(settings, pipeline, settings.guidance_prompt)
    warn_of_unknown((*texts_of(settings), *(text for e in edits for text in e.prompts)), known)
    judge = Judge(dict(split_place(text) for text in settings.network), device)
    model = open_model(settings, device) if pipeline is None else model_of(pipeline)
    _check_thresholds(settings, model)
    folder.begin(_made_with(settings), overwrite=overwrite)
    callbacks = Callbacks(bars=bars_of(quiet=quiet))
    with memory_errors_in_one_line(device):
        return _Run(settings, model, judge, folder, callbacks).of(edits)


def _made_with(settings: GridSettings) -> dict[str, object]:
    """Return the settings that results and their measures depend on, as a file holds them."""
    values = settings.affecting(Lifetime.MEASURING)
    if settings.source is not None and settings.benchmark is None:
        # It may have changed since a run that was stopped.
        values["a source of state"] = fingerprint.of_values(stamp_of(expanded(settings.source)))
    return {name: value for name, value in values.items() if value not in (None, [])}


def _check_thresholds(settings: GridSettings, model: Model) -> None:
    """Raise InputError for thresholds to try with a model whose own method injects nothing."""
    axes, method = read_axes(settings.grid), settings.resolve(model.defaults).method
    if "method" not in axes and method != INJECT and {"tau_f", "tau_a"} & axes.keys():
        raise InputError(
            f"grid tries thresholds, and method {method} injects nothing; give "
            "--grid strength=0.2,0.4,0.6,0.8"
        )


def _own_edit(settings: GridSettings) -> GridEdit:
    """Return the edit of the settings' source. Raise InputError early if it cannot be used."""
    name = "generated"
    if settings.source is not None:
        with contextlib.closing(read_clip(settings.source, **settings.part(ReadSettings))) as clip:
            name = Path(clip.name).stem
    return GridEdit(name=name, source=settings.source, prompts=settings.prompt)


class _Run:
    """A run that writes results, sheets, plot and tables in one folder."""

    def __init__(
        self,
        settings: GridSettings,
        model: Model,
        judge: Judge,
        folder: GridFolder,
        callbacks: Callbacks,
    ) -> None:
        self._settings, self._model, self._callbacks = settings, model, callbacks
        self._judge, self._folder = judge, folder
        self._axes = read_axes(settings.grid)

    def of(self, edits: Sequence[GridEdit]) -> Grid:
        """Try every cell on every edit, and draw the results."""
        tried: list[Tried] = []
        sheets: list[Path] = []
        for edit in edits:
            try:
                some, source = self._try(edit)
            except InputError as error:
                if len(edits) == 1:
                    raise
                _log.warning("%s is left out: %s", edit.name, error)
                continue
            tried += some
            for number, prompt in enumerate(edit.prompts, 1):
                several = len(edits) > 1 or len(edit.prompts) > 1
                name = f"sheet-{edit.name}-{number}.png" if several else "sheet.png"
                of_prompt = [one for one in some if one.prompt == prompt]
                points = points_of(of_prompt)
                drawn = draw_sheet(of_prompt, points, source, self._axes, self._settings.side)
                sheets.append(self._write(name, drawn))
        if not tried:
            raise InputError("none of the sources can be used")
        points, names = points_of(tried), (self._judge.structure_name, self._judge.text_name)
        plot = self._write("plot.png", draw_plot(points, *names))
        tables = (self._folder.path / "grid.csv", self._folder.path / "grid.json")
        for path, text in zip(tables, (_table(tried), self._summary(points)), strict=True):
            with atomic_output(path, folder=False, overwrite=True) as part:
                part.write_text(text, encoding="utf-8")
        return Grid(points=tuple(points), sheets=tuple(sheets), plot=plot, tables=tables)

    def _try(self, edit: GridEdit) -> tuple[list[Tried], Picture]:
        """Make an edit's missing results; return all of them and the source's middle frame."""
        cells = cells_of(self._axes)
        todo = [cell for cell in cells if not self._folder.has(edit, cell)]
        if todo or not self._folder.source(edit).is_file():
            self._make(edit, todo)
        tried = [
            self._folder.tried(edit, number, cell)
            for cell in cells
            for number in range(len(edit.prompts))
        ]
        return tried, read_middle(self._folder.source(edit))

    @torch.no_grad()
    def _make(self, edit: GridEdit, cells: Sequence[GridCell]) -> None:
        """Make and measure cells of an edit, from one inversion."""
        settings, model = self._settings, self._model
        with contextlib.ExitStack() as open_things:
            clips = open_clips([edit.source] if edit.source else [], settings, open_things)
            above = folder_above(self._folder.path)
            subject = open_subject(
                model,
                clips,
                settings,
                above,
                open_things,
                prompts=edit.prompts,
                methods=self._axes.get("method", ()),
                callbacks=self._callbacks,
            )
            (opened,) = subject.edits
            source = opened.source
            own = OwnMeasures(
                open_things.enter_context(subject.network()),
                model.layers,
                model.schedule(subject.options, source.size),
                model.encode_texts([""]),
                batch_size=subject.batch_size,
                window=model.window,
            )
            begun = (source.trajectory.clean, subject.frames(source))
            middle = begun[1][len(begun[1]) // 2]
            write_clip([middle[None]], self._folder.source(edit), overwrite=True)
            for cell in cells:
                options = subject.options.override(cell.options)
                result = opened.sample(options, generators=seeded(settings.seed))
                self._measure(edit, cell, result, own, begun)
                _log.info("%s: %s is done", edit.name, cell.name)

    def _measure(
        self,
        edit: GridEdit,
        cell: GridCell,
        result: EditResult,
        own: OwnMeasures,
        source: tuple[Tensor, Frames],
    ) -> None:
        """Measure and write the results of a cell. source: its clean latents and its frames."""
        for number, prompt in enumerate(edit.prompts):
            frames = result.all_frames(number)
            made, text = (result.latents[number], frames), result.prompts.targets
            measured = Measured(
                prompt=prompt,
                structure=self._judge.structure(own, made, source),
                text=self._judge.text(own, made, prompt, text[number : number + 1]),
            )
            self._folder.write(edit, number, cell, frames, measured)

    def _write(self, name: str, picture: Picture) -> Path:
        return write_clip([picture[None]], self._folder.path / name, overwrite=True)

    def _summary(self, points: Sequence[Point]) -> str:
        """Return JSON of the points, their measures and the settings."""
        values = {
            "structure": self._judge.structure_name,
            "text": self._judge.text_name,
            "settings": self._settings.model_dump(mode="json", by_alias=True, exclude_unset=True),
            "versions": {name: version(name) for name in ("pnpvideo", "torch", "diffusers")},
            "points": [
                point.cell.options
                | {"structure": point.structure, "text": point.text, "best": point.best}
                for point in points
            ],
        }
        return json.dumps(values, indent=1, ensure_ascii=False)


def points_of(tried: Sequence[Tried]) -> list[Point]:
    """Return the means of each cell, in the order in which they were tried."""
    by_cell: dict[str, list[Tried]] = {}
    for one in tried:
        by_cell.setdefault(one.cell.name, []).append(one)
    structure = [fmean(one.structure for one in some) for some in by_cell.values()]
    text = [fmean(one.text for one in some) for some in by_cell.values()]
    rows = zip(by_cell.values(), structure, text, pareto_front(structure, text), strict=True)
    return [Point(cell=x[0].cell, structure=s, text=t, best=b) for x, s, t, b in rows]


def _table(tried: Sequence[Tried]) -> str:
    """Return CSV with a line for each result."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    names = list(tried[0].cell.options)
    writer.writerow(["edit", "prompt", *names, "structure", "text", "result"])
    for one in tried:
        values = [str(one.cell.options[name]) for name in names]
        measured = [repr(one.structure), repr(one.text)]
        writer.writerow([one.edit, one.prompt, *values, *measured, str(one.path)])
    return text.getvalue()


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> list[bool]:
    """Return for each choice whether it is on the Pareto front.

    No other choice is at least as good in cost and gain and better in one of them. Choices that are
    equal in both are on the front together.
    """
    points = list(zip(costs, gains, strict=True))
    return [
        not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points)
        for cost, gain in points
    ]
