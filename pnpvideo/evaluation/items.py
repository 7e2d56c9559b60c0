"""The items of a benchmark, independent of its published format."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from pnpvideo.clips.find_images import is_image_name, is_video_name
from pnpvideo.errors import InputError
from pnpvideo.evaluation.masks import PICTURE_SUFFIXES, MaskSource
from pnpvideo.files.tables import text_of
from pnpvideo.options.declared import check_text


@dataclass(frozen=True, kw_only=True)
class Item:
    """One edit that a benchmark asks for.

    id: its name, unique in the benchmark.
    source: a picture, a clip or a folder of frames; None if it is the result of `after`.
    prompt: describes the result; source_prompt: describes the source, empty if unknown.
    edit_type: the benchmark's group of edits. label: the class that a classifier should see.
    caption: the text that metrics compare the result with; the prompt if it is empty.
    mask: the part to edit. reference: the benchmark authors' result.
    result: the path of a result in a method's folder, without a suffix.
    after: the id of an earlier item whose result is the source.
    group: the name of the items that one process makes in order; the source if it is empty.
    scored: False for an item that is only a step to another item.
    """

    id: str
    source: Path | None
    prompt: str
    result: str
    source_prompt: str = ""
    edit_type: str = ""
    label: str = ""
    caption: str = ""
    mask: MaskSource | None = None
    reference: Path | None = None
    after: str | None = None
    group: str = ""
    scored: bool = True

    @property
    def text(self) -> str:
        """Return the text that metrics compare the result with."""
        return self.caption or self.prompt

    @property
    def group_key(self) -> str:
        return self.group or str(self.source)


@dataclass(frozen=True, kw_only=True)
class LeftOutEntry:
    """An entry without an item. by_rule: the benchmark's rules exclude it; it is not broken."""

    id: str
    reason: str
    by_rule: bool = False


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The items in order, and the entries that were left out."""

    items: tuple[Item, ...]
    left_out: tuple[LeftOutEntry, ...]


@dataclass(frozen=True, kw_only=True)
class ReadRequest:
    """The readers' needs besides the data.

    captions: a file for MagicBrush that is not part of the benchmark. unpacked: a folder for
    pictures that are packed in a table.
    """

    captions: Path | None = None
    unpacked: Path


class BenchmarkEntry(BaseModel):
    """The required fields of an entry in a published format; others are ignored.

    Null is a field that is not given, and numbers are texts where texts are wanted.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        return {name: value for name, value in values.items() if value is not None}

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: object) -> object:
        if isinstance(value, str):
            check_text(value)
        return text_of(value) if isinstance(value, float) else value


class UnusableError(Exception):
    """An entry that gives no item; the message says why. by_rule: see `LeftOutEntry`."""

    def __init__(self, reason: str, *, by_rule: bool = False) -> None:
        super().__init__(reason)
        self.by_rule = by_rule


@dataclass
class Collector:
    """A collector of items that records broken entries by name and goes on."""

    items: dict[str, Item] = field(default_factory=dict)
    left_out: list[LeftOutEntry] = field(default_factory=list)

    @contextmanager
    def entry(self, name: str) -> Iterator[None]:
        """Keep errors of this entry from being raised, and record them."""
        try:
            yield
        except UnusableError as error:
            self.left_out.append(LeftOutEntry(id=name, reason=str(error), by_rule=error.by_rule))
        except ValidationError as error:
            self.left_out.append(LeftOutEntry(id=name, reason=first_problem(error)))
        except (InputError, OSError) as error:  # Such as a name that is too long for the disk.
            self.left_out.append(LeftOutEntry(id=name, reason=str(error)))

    def add(self, item: Item) -> None:
        """Add an item. Raise UnusableError for a duplicate id, or a missing prompt or file."""
        if item.id in self.items:
            raise UnusableError("this id occurs twice; the first entry is used")
        if ".." in Path(item.result).parts or Path(item.result).is_absolute():
            raise UnusableError("its name points outside the results' folder")
        if not item.prompt.strip():
            raise UnusableError("it has no prompt")
        for field_name, path in (("source", item.source), ("reference", item.reference)):
            if path is not None and not path.exists():
                raise UnusableError(f"the {field_name} {path} is missing")
        self.items[item.id] = item

    def done(self) -> Benchmark:
        return Benchmark(items=tuple(self.items.values()), left_out=tuple(self.left_out))


def first_problem(error: ValidationError) -> str:
    """Describe the first of pydantic's errors: which field, and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    location = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"it has no {location}"
    return f"{location}: {cause if isinstance(cause, InputError) else first['msg']}"


def find_picture(folder: Path, name: str) -> Path:
    """Find a picture by a path that may start above the folder: dog/1.jpg for /Set/dog/1.jpg.

    Raise UnusableError if there is no such picture.
    """
    parts = Path(name.replace("\\", "/")).parts
    parts = tuple(part for part in parts if part not in ("/", ".", ".."))
    for first in range(len(parts)):
        path = folder.joinpath(*parts[first:])
        if path.is_file():
            return path
    raise UnusableError(f"the picture {name} is missing")


def find_result(folder: Path, result: str) -> Path | None:
    """Find a method's result: a picture, a clip or a folder of frames; None if it is missing.

    The outermost folder of its name may be missing in the path.
    """
    _, _, inner = result.partition("/")
    for name in (result, inner) if inner else (result,):
        path = folder / name
        if path.is_dir() and any(path.iterdir()):
            return path
        # Nearly all results have one of these, and a folder can hold many thousands.
        for suffix in PICTURE_SUFFIXES:
            if (file := path.with_name(path.name + suffix)).is_file():
                return file
        if path.parent.is_dir():
            names = _by_stem(path.parent, path.parent.stat().st_mtime_ns).get(path.name, ())
            if files := [file for one in names if (file := path.with_name(one)).is_file()]:
                return files[0]
    return None


@lru_cache(maxsize=256)
def _by_stem(folder: Path, _changed: int) -> Mapping[str, list[str]]:
    """Return the names of pictures and clips in a folder by their names without suffix.

    Pictures come first. _changed: when a name in the folder was last changed.
    """
    names = sorted(path.name for path in folder.iterdir())
    found: dict[str, list[str]] = {}
    for is_kind in (is_image_name, is_video_name):
        for name in names:
            if is_kind(Path(name)):
                found.setdefault(Path(name).stem, []).append(name)
    return found
