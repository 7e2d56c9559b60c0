"""The folder of measured blocks.

run.json      the settings of the measures
blocks.csv    the measures: a line for each block, picture and prompt, in the order of measuring
blocks.json   the blocks' means, from the first to choose to the last, and the settings
plot.png      the same as a plot
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pnpvideo.errors import InputError
from pnpvideo.files.read_text import read_text
from pnpvideo.files.shared_folder import SharedFolder

_WRITTEN = re.compile(r"run\.json|blocks\.(csv|json)|plot\.png|.*\.part")
"""The names that a run writes, including an interrupted one."""
_COLUMNS = ("picture", "prompt", "block", "structure", "text")

WHOLE = "none"
"""The entry in place of a block if nothing is injected or skipped."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The measures of one sampling. block: what was changed in it; see `WHOLE`.

    structure: the distance from the source's structure, or, of a skipped block, from that of the
    result of the whole network. text: how well the result follows its prompt.
    """

    picture: str
    prompt: str
    block: str
    structure: float
    text: float


class BlockFolder(SharedFolder):
    """The folder of one model's measures."""

    def check(self, made_with: Mapping[str, object], *, overwrite: bool) -> None:
        """Raise InputError unless a run with these settings can write here.

        The folder must be new, empty, or of such a run; with other settings, only if overwritten.
        """
        folder = self.path
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file; choose another name for the folder")
        for path in folder.iterdir() if folder.is_dir() else ():
            # A mistyped folder name must not replace anything else.
            if not _WRITTEN.fullmatch(path.name):
                raise InputError(
                    f"{folder} holds {path.name}, which is not a measure of blocks; choose another "
                    "folder"
                )
        if not overwrite and self._table.exists():
            if not self.has_settings:
                raise InputError(f"{self._table} exists already; choose another folder")
            self.check_settings(made_with)
            self.rows()

    def begin(self, made_with: Mapping[str, object], *, overwrite: bool) -> None:
        """Save the settings, and delete earlier measures if overwriting."""
        if overwrite:
            self._table.unlink(missing_ok=True)
        self.keep_settings(made_with)

    @property
    def _table(self) -> Path:
        return self.path / "blocks.csv"

    def rows(self) -> dict[tuple[str, str, str], Row]:
        """Return what is measured, by picture, prompt and block."""
        if not self._table.exists():
            return {}
        try:
            rows = [
                Row(
                    picture=line["picture"],
                    prompt=line["prompt"],
                    block=line["block"],
                    structure=float(line["structure"]),
                    text=float(line["text"]),
                )
                for line in csv.DictReader(io.StringIO(read_text(self._table)), strict=True)
            ]
        except (KeyError, TypeError, ValueError, csv.Error):
            raise InputError(
                f"{self._table} is damaged; give --overwrite to measure again"
            ) from None
        return {(row.picture, row.prompt, row.block): row for row in rows}

    def add(self, new: Sequence[Row]) -> None:
        """Append rows. The file is whole at any time."""
        rows = self.rows() | {(row.picture, row.prompt, row.block): row for row in new}
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(_COLUMNS)
        for row in rows.values():
            measures = repr(row.structure), repr(row.text)
            writer.writerow([row.picture, row.prompt, row.block, *measures])
        self.write_text(self._table, text.getvalue())
