"""The words that a model knows, from a plain file in its folder, `words.json`.

Any model folder may hold one; nothing is asked of models without it. It says

    draws, otherwise: what the model does, and where to get the rest, for a notice
    makes_sources: whether the model can make a source from words alone
    reads_photos: whether it makes something of photos; true if left out
    words: for each kind (things, looks, grounds, lights, styles), the entries: lists of texts that
        mean the same, the usual one first
    near: for words that it does not know, the nearest of its entries
    sheet: a picture with a cell for each entry, in the order of the entries, row by row
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pnpvideo.catalogue.find_model import model_folder
from pnpvideo.errors import InputError
from pnpvideo.files.read_text import parse_json, read_text
from pnpvideo.options.values import EMBEDDED_MODEL

FILE = "words.json"
Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a cell in pixels."""
_Texts = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Something that a model knows.

    kind: such as "things". texts: how prompts can say it, the usual way first. box: the cell of its
    picture in the sheet; None without a sheet.
    """

    kind: str
    texts: tuple[str, ...]
    box: Box | None = None

    @property
    def word(self) -> str:
        """The usual way to say it."""
        return self.texts[0]


@dataclass(frozen=True, kw_only=True)
class KnownWords:
    """All that a model knows.

    model: its name, as `--model` takes it. sheet: a picture of the entries, or None. The rest is
    described at the top of this file.
    """

    entries: tuple[Entry, ...]
    draws: str
    otherwise: str
    makes_sources: bool
    reads_photos: bool = True
    near: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sheet: Path | None = None
    model: str = EMBEDDED_MODEL
    file: Path

    @property
    def kinds(self) -> dict[str, tuple[Entry, ...]]:
        """The entries of each kind, in the order of the file."""
        names = dict.fromkeys(entry.kind for entry in self.entries)
        return {name: tuple(e for e in self.entries if e.kind == name) for name in names}

    def save(self, folder: Path) -> None:
        """Copy the file and the sheet to another model folder."""
        for path in (self.file, *([self.sheet] if self.sheet else [])):
            shutil.copyfile(path, folder / path.name)


class _Sheet(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    file: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    side: Annotated[int, Field(ge=1, le=1024)]
    columns: Annotated[int, Field(ge=1, le=1000)]

    def box(self, number: int) -> Box:
        left, top = number % self.columns * self.side, number // self.columns * self.side
        return left, top, left + self.side, top + self.side


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    draws: str
    otherwise: str
    makes_sources: bool
    reads_photos: bool = True
    words: dict[str, list[_Texts]]
    near: dict[str, _Texts] = Field(default_factory=dict)
    sheet: _Sheet | None = None


def words_of_model(model: str) -> KnownWords | None:
    """Return the words of a model by its name; None if it has no folder, or no list in it.

    model: as `--model` takes it. InputError if its list cannot be used.
    """
    folder = model_folder(model)
    return None if folder is None else read_known_words(folder, model)


def read_known_words(folder: Path, model: str | None = None) -> KnownWords | None:
    """Return the words that a model's folder lists; None without a list. InputError if unusable."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        content = _File.model_validate(parse_json(read_text(path), "it"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{path} cannot be used: {place}: {first['msg']}") from None
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from None
    sheet = None if content.sheet is None else folder / content.sheet.file
    if sheet is not None and not sheet.is_file():
        raise InputError(f"{path} cannot be used: its sheet {sheet.name} is missing")
    pairs = [(kind, texts) for kind, entries in content.words.items() for texts in entries]
    entries = tuple(
        Entry(
            kind=kind,
            texts=tuple(texts),
            box=None if content.sheet is None else content.sheet.box(number),
        )
        for number, (kind, texts) in enumerate(pairs)
    )
    return KnownWords(
        entries=entries,
        draws=content.draws,
        otherwise=content.otherwise,
        makes_sources=content.makes_sources,
        reads_photos=content.reads_photos,
        near={word: tuple(texts) for word, texts in content.near.items()},
        sheet=sheet,
        model=str(folder) if model is None else model,
        file=path,
    )
