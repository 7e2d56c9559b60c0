"""Making of this method's results for a benchmark, with one inversion for each source."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pnpvideo.clips.clip import Clip
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import write_clip
from pnpvideo.errors import InputError
from pnpvideo.evaluation.items import Item, LeftOutEntry, find_result
from pnpvideo.models.model import Model
from pnpvideo.options.evaluation import EvaluationSettings
from pnpvideo.pixels.resize import resize_frames
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.edit import edit
from pnpvideo.stages.request import Edit, seeded


class ResultMaker:
    """A maker of missing results, with one loaded model.

    folder: of this method's results. load: returns the model; it is called once, and only if a
    result is missing.
    """

    def __init__(
        self, settings: EvaluationSettings, folder: Path, load: Callable[[], Model]
    ) -> None:
        self._settings, self._folder, self._load = settings, folder, load
        self._model: Model | None = None

    def missing(self, items: Sequence[Item]) -> list[Item]:
        return [item for item in items if find_result(self._folder, item.result) is None]

    def make(self, items: Sequence[Item], all_items: Mapping[str, Item]) -> list[LeftOutEntry]:
        """Write missing results of one group's items, and return the items that cannot be made.

        Items with the same source are made together. Existing results stay.
        """
        left_out: list[LeftOutEntry] = []
        remaining = self.missing(items)
        while remaining:
            first = remaining[0]
            batch = [item for item in remaining if _source_key(item) == _source_key(first)]
            if self._settings.inversion_text == "source":
                batch = [item for item in batch if item.source_prompt == first.source_prompt]
            # Two items with the same result are made once.
            batch = list({item.result: item for item in reversed(batch)}.values())[::-1]
            try:
                self._make_of_one_source(self._source(first, all_items), batch)
            except InputError as error:
                left_out += [LeftOutEntry(id=item.id, reason=str(error)) for item in batch]
                failed = {item.result for item in batch}
                remaining = [item for item in remaining if item.result not in failed]
                continue
            finished = {item.result for item in batch}
            remaining = [item for item in remaining if item.result not in finished]
        return left_out

    def _source(self, item: Item, all_items: Mapping[str, Item]) -> Path:
        if item.source is not None:
            return item.source
        assert item.after is not None
        previous = find_result(self._folder, all_items[item.after].result)
        if previous is None:
            raise InputError(f"the result of {item.after}, which it starts from, is missing")
        return previous

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
        """Return the path for one PNG, or a folder of them: both are lossless."""
        path = self._folder / item.result
        return f"{path}/" if frames > 1 else f"{path}.png"


def _source_key(item: Item) -> tuple[Path | None, str | None]:
    return item.source, item.after
