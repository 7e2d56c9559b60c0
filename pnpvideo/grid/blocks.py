"""Measuring of a transformer's blocks: one at a time is injected or skipped, on a few pictures."""

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from pnpvideo.catalogue.find_model import download_elsewhere, find_model, model_folder
from pnpvideo.catalogue.own_options import FILE
from pnpvideo.clips.clip import Frames
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.sample_folder import PROJECT_SAMPLES
from pnpvideo.clips.write import write_clip
from pnpvideo.errors import InputError
from pnpvideo.files.atomic_output import check_free
from pnpvideo.grid.block_folder import WHOLE, BlockFolder, Row
from pnpvideo.grid.draw_grid import draw_plot
from pnpvideo.grid.edits import GridEdit
from pnpvideo.grid.judge import Judge
from pnpvideo.grid.own_measures import OwnMeasures
from pnpvideo.loading.families import family_of, pipeline_class
from pnpvideo.loading.recommended import read_recommended, write_blocks
from pnpvideo.models.flow.model import FlowModel, default_options
from pnpvideo.models.flow.network import FlowNetwork
from pnpvideo.options.blocks import BlocksSettings
from pnpvideo.options.declared import Lifetime
from pnpvideo.options.edit_method import INJECT
from pnpvideo.options.grid import split_place
from pnpvideo.options.paths import expanded
from pnpvideo.options.settings_file import read_settings
from pnpvideo.run.opening import choose_device, memory_errors_in_one_line, open_model
from pnpvideo.stages.callbacks import QUIET, bars_of
from pnpvideo.stages.edit import EditResult, OpenEdit
from pnpvideo.stages.request import Edit, seeded

_log = logging.getLogger(__name__)

_SHARE = 6
"""One of so many blocks is chosen: Stable Flow's table has 9 of the 57 of FLUX.1."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block's means over all pictures and prompts (see `Row`). best: whether it is chosen."""

    name: str
    structure: float
    text: float
    best: bool


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """The findings of a run. blocks: the whole network first, then the blocks by rank."""

    blocks: tuple[Block, ...]
    files: tuple[Path, ...]


def measure_blocks(
    settings: BlocksSettings, *, overwrite: bool = False, quiet: bool = False
) -> Blocks:
    """Measure every block, and write the measures, the ranking and, if asked to, the table.

    Measures of a run with the same settings in the folder are kept: a stopped run goes on.
    """
    device = choose_device(settings)
    edits = _edits_of(settings)
    if settings.write:
        _check_writable(settings.model)
    _check_transformer(settings.model)
    folder = BlockFolder(expanded(settings.output))
    values = settings.affecting(Lifetime.MEASURING)
    made_with = {name: value for name, value in values.items() if value not in (None, [])}
    folder.check(made_with, overwrite=overwrite)
    judge = Judge(dict(split_place(text) for text in settings.network), device)
    model = open_model(settings, device)
    if not isinstance(model, FlowModel):
        raise _has_unet(settings.model)
    folder.begin(made_with, overwrite=overwrite)
    with memory_errors_in_one_line(device):
        return _Run(settings, model, judge, folder).of(edits, quiet=quiet)


def _edits_of(settings: BlocksSettings) -> list[GridEdit]:
    """Return the pictures with their prompts. InputError if one cannot be used."""
    edits = [
        GridEdit(name=path, source=path, prompts=settings.prompt) for path in settings.pictures
    ]
    for path in () if edits else sorted(PROJECT_SAMPLES.glob("*.yaml")):
        values = read_settings(path)
        own = values["prompt"]
        prompts = settings.prompt or ((own,) if isinstance(own, str) else tuple(map(str, own)))  # type: ignore[call-overload]
        edits.append(GridEdit(name=path.stem, source=str(values["source"]), prompts=prompts))
    if not edits:
        raise InputError("the bundled samples are missing; give pictures and a prompt")
    for edit in edits:
        assert edit.source is not None
        read_clip(edit.source, frames=1).close()
    return edits


def _check_transformer(model: str) -> None:
    """Raise InputError for a folder of a UNet. Loading reports everything else that is wrong."""
    name = pipeline_class(model)
    if name is not None and family_of(model, name) is None:
        raise _has_unet(model)


def _has_unet(model: str) -> InputError:
    return InputError(
        f"the model {model} has a UNet, whose layers are chosen by a rule, and only the blocks of "
        "transformers are measured; give a model such as flux2-klein or its folder"
    )


def _check_writable(model: str) -> None:
    """Raise InputError unless a table can be written into a model's folder."""
    folder, found = model_folder(model), find_model(model)
    if folder is None:
        hint = download_elsewhere(found) if isinstance(found, str) else "give a folder"
        raise InputError(
            f"write puts the table into {FILE} in the model's folder, and {model} is not a folder; "
            f"{hint}"
        )
    check_free(folder / FILE, folder=False, overwrite=True)


class _Run:
    """A run that measures a model's blocks in one folder."""

    def __init__(
        self, settings: BlocksSettings, model: FlowModel, judge: Judge, folder: BlockFolder
    ) -> None:
        self._settings, self._model, self._judge, self._folder = settings, model, judge, folder
        self._names = model.family.block_names(model.transformer)
        own = default_options(model.family, has_blocks=True)
        whole = {"method": INJECT, "start_from": "inverted", "start_level": 1.0}
        thresholds = {"tau_f": 1.0, "tau_a": 1.0}
        options = read_recommended(Path(find_model(settings.model)), own).options
        self._method = options.method
        self._injecting = options.override({**whole, **thresholds, "steps": settings.steps})
        self._plain = self._injecting.override(dict.fromkeys(thresholds, 0.0))

    def of(self, edits: Sequence[GridEdit], *, quiet: bool) -> Blocks:
        """Measure what is missing on each picture, and rank the blocks."""
        with self._model.injecting(self._tables(self._names)):
            self._model.check_options(self._injecting)
        done, whole = self._folder.rows(), (WHOLE, *self._names)
        todo = {
            edit.name: [
                block
                for block in whole
                if any((edit.name, prompt, block) not in done for prompt in edit.prompts)
            ]
            for edit in edits
        }
        total, left = len(edits) * len(whole), sum(map(len, todo.values()))
        bars = bars_of(quiet=quiet)
        with bars(desc="blocks", total=total, initial=total - left, unit=" samplings") as bar:
            for edit in edits:
                if todo[edit.name]:
                    self._measure(edit, todo[edit.name], bar.update)
        return self._report(edits)

    def _tables(self, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
        return tuple((name, self._settings.kinds) for name in names)

    @torch.no_grad()
    def _measure(
        self, edit: GridEdit, blocks: Sequence[str], advance: Callable[[], object]
    ) -> None:
        """Measure blocks on one picture, from one inversion. Each result depends on its block
        alone.
        """
        model, options = self._model, self._plain
        assert edit.source is not None
        with contextlib.ExitStack() as open_things:
            clip = read_clip(edit.source, frames=1)
            open_things.callback(clip.close)
            request = Edit(
                source=clip,
                size=self._settings.size,
                prompt=edit.prompts,
                options=options,
                generators=seeded(0),
                keep="all",
            )
            opened = open_things.enter_context(OpenEdit(model, request, QUIET))
            opened.invert()
            network = open_things.enter_context(model.network())
            own = OwnMeasures(
                network,
                model.layers,
                model.schedule(options, opened.source.size),
                model.encode_texts([""]),
                batch_size=request.batch_size,
                window=model.window,
            )
            if self._settings.skip:
                origins = _made(opened.sample(options, generators=seeded(0)))
            else:
                frames = np.concatenate(list(opened.source.frames(request.batch_size)))
                origins = [(opened.source.trajectory.clean, frames)] * len(edit.prompts)
            for block in blocks:
                result = self._sample(opened, network, block)
                texts = result.prompts.targets
                self._folder.add(
                    [
                        Row(
                            picture=edit.name,
                            prompt=prompt,
                            block=block,
                            structure=self._judge.structure(own, made, origins[number]),
                            text=self._judge.text(own, made, prompt, texts[number : number + 1]),
                        )
                        for number, (prompt, made) in enumerate(
                            zip(edit.prompts, _made(result), strict=True)
                        )
                    ]
                )
                advance()

    def _sample(self, opened: OpenEdit, network: FlowNetwork, block: str) -> EditResult:
        """Sample with one block injected or skipped."""
        if block == WHOLE:
            return opened.sample(self._plain, generators=seeded(0))
        if self._settings.skip:
            with network.skipping(block):
                return opened.sample(self._plain, generators=seeded(0))
        with self._model.injecting(self._tables([block])):
            return opened.sample(self._injecting, generators=seeded(0))

    def _report(self, edits: Sequence[GridEdit]) -> Blocks:
        """Rank the blocks, and write the ranking, a plot and, if asked to, the table."""
        settings, folder = self._settings, self._folder
        blocks = self._ranked(edits)
        judge = self._judge.structure_name, self._judge.text_name
        plot = write_clip(
            [draw_plot(blocks, *judge, joined=False)[None]],
            folder.path / "plot.png",
            overwrite=True,
        )
        chosen = {block.name for block in blocks if block.best}
        table = {name: settings.kinds for name in self._names if name in chosen}
        folder.write_json(
            folder.path / "blocks.json",
            {
                "structure": judge[0],
                "text": judge[1],
                "settings": settings.model_dump(mode="json", exclude_unset=True),
                "versions": {name: version(name) for name in ("pnpvideo", "torch", "diffusers")},
                "ranking": [asdict(block) for block in blocks],
                "blocks": table,
            },
        )
        files = [folder.path / "blocks.csv", folder.path / "blocks.json", plot]
        if settings.write:
            place = model_folder(settings.model)
            assert place is not None
            files.append(write_blocks(place, table))
            if self._method != INJECT:
                _log.warning(
                    "%s has method %s among its options; give --method inject to use the table",
                    files[-1],
                    self._method,
                )
        return Blocks(blocks=tuple(blocks), files=tuple(files))

    def _ranked(self, edits: Sequence[GridEdit]) -> list[Block]:
        """Return the blocks by what is kept of the source, or lost if they are skipped."""
        rows = self._folder.rows()
        means: dict[str, tuple[float, float]] = {}
        for name in (WHOLE, *self._names):
            some = [rows[edit.name, prompt, name] for edit in edits for prompt in edit.prompts]
            means[name] = fmean(row.structure for row in some), fmean(row.text for row in some)
        ranked = sorted(self._names, key=lambda name: means[name][0], reverse=self._settings.skip)
        count = self._settings.top or max(1, len(ranked) // _SHARE)
        best = ranked[:count]
        return [
            Block(name=name, structure=means[name][0], text=means[name][1], best=name in best)
            for name in (WHOLE, *ranked)
        ]


def _made(result: EditResult) -> list[tuple[Tensor, Frames]]:
    """Return the clean latents and the frames of each result."""
    return [(result.latents[number], result.all_frames(number)) for number in range(len(result))]
