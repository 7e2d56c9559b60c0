"""What a benchmark is made of, whichever format it was published in: items, read one by one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pnpvideo.clips.find_images import VIDEO_SUFFIXES
from pnpvideo.errors import InputError
from pnpvideo.evaluation.masks import PICTURE_SUFFIXES, MaskSource


@dataclass(frozen=True, kw_only=True)
class Item:
    """One edit that a benchmark asks for.

    id: its name, of which there is one in the benchmark.
    source: a picture, a clip or a folder of frames; None where it is the result of `after`.
    prompt: what the result is to show; source_prompt: what the source does, empty if unknown.
    edit_type: the benchmark's own group of edits. label: the class that a classifier is to see.
    caption: what metrics hold the result against; the prompt where it is empty.
    mask: what is to be edited. reference: how the benchmark's authors would have it.
    result: where a result lies in a method's folder, without a suffix.
    after: the id of an item before this one, whose result is the source.
    group: items that one process makes, in their order; by source where it is empty.
    scored: False for what is only a step to another item.
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
        """What metrics hold the result against."""
        return self.caption or self.prompt

    @property
    def group_key(self) -> str:
        return self.group or str(self.source)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """An entry that gives no item. by_rule: the benchmark's own rule says so; nothing is broken."""

    id: str
    reason: str
    by_rule: bool = False


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The items in their order, and what was left out of them."""

    items: tuple[Item, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, kw_only=True)
class ReadRequest:
    """What readers need beside the data. captions: of MagicBrush, a file that is not the
    benchmark's own. unpacked: a folder for pictures that lie packed in a table.
    """

    captions: Path | None = None
    unpacked: Path


class Entry(BaseModel):
    """What an entry of a published format must hold; what else it holds does not matter."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class UnusableError(Exception):
    """Why an entry gives no item. by_rule: see `LeftOut`."""

    def __init__(self, reason: str, *, by_rule: bool = False) -> None:
        super().__init__(reason)
        self.by_rule = by_rule


@dataclass
class Collector:
    """Gathers items; what is broken is left out by its name, and the rest goes on."""

    items: dict[str, Item] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    @contextmanager
    def entry(self, name: str) -> Iterator[None]:
        """Within, what cannot be used of this entry is noted, and nothing raised."""
        try:
            yield
        except UnusableError as error:
            self.left_out.append(LeftOut(id=name, reason=str(error), by_rule=error.by_rule))
        except InputError as error:
            self.left_out.append(LeftOut(id=name, reason=str(error)))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            self.left_out.append(LeftOut(id=name, reason=f"{where}: {first['msg']}"))

    def add(self, item: Item) -> None:
        """UnusableError where a name comes twice, or its texts or pictures are not there."""
        if item.id in self.items:
            raise UnusableError("this id comes twice; the first one counts")
        if ".." in Path(item.result).parts or Path(item.result).is_absolute():
            raise UnusableError("its name leads out of the results' folder")
        if not item.prompt.strip():
            raise UnusableError("it has no prompt")
        for what, path in (("source", item.source), ("reference", item.reference)):
            if path is not None and not path.exists():
                raise UnusableError(f"the {what} {path} is missing")
        self.items[item.id] = item

    def done(self) -> Benchmark:
        return Benchmark(items=tuple(self.items.values()), left_out=tuple(self.left_out))


def find_picture(folder: Path, name: str) -> Path:
    """A picture by a path that may begin above the folder: /Set/dog/1.jpg is found as dog/1.jpg.

    UnusableError where there is none.
    """
    parts = Path(name.replace("\\", "/")).parts
    parts = tuple(part for part in parts if part not in ("/", ".", ".."))
    for first in range(len(parts)):
        path = folder.joinpath(*parts[first:])
        if path.is_file():
            return path
    raise UnusableError(f"the picture {name} is missing")


def find_result(folder: Path, result: str) -> Path | None:
    """A method's result: a picture, a clip or a folder of frames; the outermost folder of its name
    may be left out.
    """
    _, _, inner = result.partition("/")
    for name in (result, inner) if inner else (result,):
        path = folder / name
        if path.is_dir() and any(path.iterdir()):
            return path
        for suffix in (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES):
            if (file := path.with_name(path.name + suffix)).is_file():
                return file
    return None
