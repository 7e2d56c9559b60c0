"""Results of this method for a benchmark's items: one inversion for all prompts of a source."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pnpvideo.clips.clip import Clip
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import write_clip
from pnpvideo.errors import InputError
from pnpvideo.evaluation.items import Item, LeftOut, find_result
from pnpvideo.models.model import Model
from pnpvideo.options.evaluation import EvaluationSettings
from pnpvideo.pixels.resize import resize_frames
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.edit import edit
from pnpvideo.stages.request import Edit, seeded


class Maker:
    """Makes what is missing, with one loaded model for everything.

    folder: of this method's results. load: gives the model, which is asked for once and only where
    something is missing.
    """

    def __init__(
        self, settings: EvaluationSettings, folder: Path, load: Callable[[], Model]
    ) -> None:
        self._settings, self._folder, self._load = settings, folder, load
        self._model: Model | None = None

    def missing(self, items: Sequence[Item]) -> list[Item]:
        return [item for item in items if find_result(self._folder, item.result) is None]

    def make(self, items: Sequence[Item], all_items: Mapping[str, Item]) -> list[LeftOut]:
        """Write the results of items of one group that are missing, and tell which cannot be made.

        Items with the same source are made at once. A result that is there stays.
        """
        left_out: list[LeftOut] = []
        todo = self.missing(items)
        while todo:
            first = todo[0]
            same = [item for item in todo if _source_key(item) == _source_key(first)]
            if self._settings.inversion_text == "source":
                same = [item for item in same if item.source_prompt == first.source_prompt]
            # Of two items with the same result, one makes it.
            same = list({item.result: item for item in reversed(same)}.values())[::-1]
            try:
                self._make_of_one_source(self._source(first, all_items), same)
            except InputError as error:
                left_out += [LeftOut(id=item.id, reason=str(error)) for item in same]
                failed = {item.result for item in same}
                todo = [item for item in todo if item.result not in failed]
                continue
            made = {item.result for item in same}
            todo = [item for item in todo if item.result not in made]
        return left_out

    def _source(self, item: Item, all_items: Mapping[str, Item]) -> Path:
        if item.source is not None:
            return item.source
        assert item.after is not None
        before = find_result(self._folder, all_items[item.after].result)
        if before is None:
            raise InputError(f"the result of {item.after} is missing, which it goes on from")
        return before

    def _make_of_one_source(self, path: Path, items: Sequence[Item]) -> None:
        with contextlib.closing(read_clip(path, frames=self._settings.frame_count)) as clip:
            if self._model is None:
                self._model = self._load()
            self._translate(self._model, clip, items)

    def _translate(self, model: Model, clip: Clip, items: Sequence[Item]) -> None:
        settings = self._settings
        request = Edit(
            source=clip,
            inversion_prompt=items[0].source_prompt if settings.inversion_text == "source" else "",
            size=settings.size,
            prompt=[item.prompt for item in items],
            options=settings.resolve(model.defaults),
            generators=seeded(settings.seed),
            batch_size=settings.batch_size,
        )
        with edit(model, request, QUIET) as result:
            for index, item in enumerate(items):
                frames = result.frames(index)
                sized = (resize_frames(np.asarray(x), clip.width, clip.height) for x in frames)
                write_clip(sized, self._place(item, len(clip)), overwrite=True)

    def _place(self, item: Item, frames: int) -> str:
        """One picture, or a folder of them: nothing is lost."""
        path = self._folder / item.result
        return f"{path}/" if frames > 1 else f"{path}.png"


def _source_key(item: Item) -> tuple[Path | None, str | None]:
    return item.source, item.after
