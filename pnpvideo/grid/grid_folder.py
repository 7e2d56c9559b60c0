"""The folder of a grid: finished work by edit, prompt and cell.

run.json                  the settings of the results
CELL/EDIT.png             results, or folders of frames
done/...                  their measures, and the sources' middle frames
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pnpvideo.clips.clip import Frames
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import write_clip
from pnpvideo.errors import InputError
from pnpvideo.files.own_names import remove
from pnpvideo.files.read_text import parse_json, read_text
from pnpvideo.files.shared_folder import SharedFolder, unique_name
from pnpvideo.grid.edits import GridEdit
from pnpvideo.inside.draw import Picture
from pnpvideo.options.grid import GridCell

_WRITTEN = re.compile(r"(sheet.*|plot)\.png|(grid|run)\.(csv|json)|sources|done|\w+=.*|\..*\.part")
"""The names that a run writes, including an interrupted one."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The measures of a result.

    structure: the distance of its structure from the source's (0 if equal). text: how well it
    follows its prompt (more is better).
    """

    prompt: str
    structure: float
    text: float


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One cell's result for one prompt of an edit. path: of the result. middle: its middle frame.

    structure, text: as in `Measured`.
    """

    edit: str
    prompt: str
    cell: GridCell
    structure: float
    text: float
    path: Path
    middle: Picture


class GridFolder(SharedFolder):
    """The folder of one grid."""

    def check(self, made_with: Mapping[str, object], *, overwrite: bool) -> None:
        """Raise InputError unless a run with these settings can write here.

        The folder must be new, empty, or a grid's. A grid with other settings must be overwritten.
        """
        folder = self.path
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file; choose another name for the folder")
        # A benchmark's pictures may have been unpacked there before.
        if not folder.is_dir() or {path.name for path in folder.iterdir()} <= {"sources"}:
            return
        if not overwrite:
            if not self.has_settings:
                raise InputError(
                    f"{folder} exists and is not empty; choose another folder or give --overwrite"
                )
            if self._done.is_dir():
                self.check_settings(made_with)
        for path in folder.iterdir():
            # A mistyped folder name must not delete anything but a grid.
            if not _WRITTEN.fullmatch(path.name):
                raise InputError(
                    f"{folder} holds {path.name}, which is not part of a grid, so it is not "
                    "replaced; choose another folder"
                )

    def begin(self, made_with: Mapping[str, object], *, overwrite: bool) -> None:
        """Save the settings, and delete earlier measures if overwriting."""
        if overwrite:
            shutil.rmtree(self._done, ignore_errors=True)
        self.keep_settings(made_with)

    def has(self, edit: GridEdit, cell: GridCell) -> bool:
        """Return whether a cell's results for all of an edit's prompts exist."""
        return all(
            self._measured(edit, number, cell) is not None and self._result(edit, number, cell)
            for number in range(len(edit.prompts))
        )

    def tried(self, edit: GridEdit, number: int, cell: GridCell) -> Tried:
        """Return an existing result."""
        measured, path = self._measured(edit, number, cell), self._result(edit, number, cell)
        assert measured is not None
        assert path is not None
        return Tried(
            edit=edit.name,
            prompt=measured.prompt,
            cell=cell,
            structure=measured.structure,
            text=measured.text,
            path=path,
            middle=read_middle(path),
        )

    def write(
        self, edit: GridEdit, number: int, cell: GridCell, frames: Frames, measured: Measured
    ) -> None:
        """Write a result, and then its measures, which mark it as done."""
        place = self._place(edit, number, cell)
        picture = place.with_name(f"{place.name}.png")
        output, other = (f"{place}/", picture) if len(frames) > 1 else (str(picture), place)
        write_clip([frames], output, overwrite=True)
        remove(other)  # of a grid that was overwritten
        self.write_json(self._record(edit, number, cell), asdict(measured))

    def source(self, edit: GridEdit) -> Path:
        """Return the path of the middle frame of an edit's source."""
        return self._done / f"{unique_name(edit.name)}.png"

    @property
    def _done(self) -> Path:
        return self.path / "done"

    def _place(self, edit: GridEdit, number: int, cell: GridCell) -> Path:
        name = f"{edit.name}-{number + 1}" if len(edit.prompts) > 1 else edit.name
        return self.path / cell.name / name

    def _result(self, edit: GridEdit, number: int, cell: GridCell) -> Path | None:
        place = self._place(edit, number, cell)
        picture = place.with_name(f"{place.name}.png")
        return next((path for path in (picture, place) if path.exists()), None)

    def _record(self, edit: GridEdit, number: int, cell: GridCell) -> Path:
        return self._done / f"{unique_name(f'{edit.name} {number} {cell.name}')}.json"

    def _measured(self, edit: GridEdit, number: int, cell: GridCell) -> Measured | None:
        """Return measures; None if there are none, or if they are for another prompt."""
        try:
            record = self._record(edit, number, cell)
            found: Any = parse_json(read_text(record), record)
            measured = Measured(**found)
        except (InputError, TypeError):
            return None
        return measured if measured.prompt == edit.prompts[number] else None


def read_middle(path: Path) -> Picture:
    """Read the middle frame of a result."""
    clip = read_clip(path)
    try:
        picture: Picture = clip.read(len(clip) // 2, len(clip) // 2 + 1)[0]
    finally:
        clip.close()
    return picture
