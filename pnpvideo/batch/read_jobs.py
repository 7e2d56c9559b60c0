"""Jobs as people write them: a line of JSON, a row of a table, or a clip in a folder."""

import csv
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pnpvideo.clips.find_images import is_image_name, is_video_name, natural
from pnpvideo.errors import InputError
from pnpvideo.options.declared import Schema, declared, unknown_option
from pnpvideo.options.settings import Settings
from pnpvideo.options.settings_file import with_paths_from

_log = logging.getLogger(__name__)

_TRUTHS = {"true": True, "yes": True, "false": False, "no": False}
_NUMBERS: dict[str, Callable[[str], float]] = {"integer": int, "number": float}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The settings of one job, some of which may still be missing. place: where they stand."""

    place: str
    values: dict[str, object]


def read_jobs(path: Path, output: Path) -> list[Entry]:
    """All jobs of a file or folder, sources and the like starting from its folder.

    output: the folder of the results, in which no clips are looked for. InputError where something
    in it is no job, or it holds none.
    """
    if path.is_dir():
        return _read_folder(path, output)
    readers = {".jsonl": _read_lines, ".csv": _read_table}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path} is no list of jobs; give a .jsonl or .csv file, or a folder")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text in UTF-8") from None
    folder = path.absolute().parent
    entries = [
        # A result starts from the folder of the results.
        Entry(place=place, values=with_paths_from(folder, values) | _output_of(values))
        for place, values in readers[path.suffix.lower()](text, path.name)
    ]
    if not entries:
        raise InputError(f"{path} holds no jobs")
    return entries


def _output_of(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if name == "output"}


def _read_lines(text: str, name: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{name} line {number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            raise InputError(f"{place} is no JSON: {error}") from None
        if not isinstance(values, dict):
            raise InputError(f'{place} holds no settings; write {{"source": ..., "prompt": ...}}')
        _check_names(values, place)
        yield place, values


def _read_table(text: str, name: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: list[str] = []
    known = declared(Settings)
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise InputError(f"{name} line {rows.line_num} is no CSV: {error}") from None
        if row is None:
            return
        if not any(cell.strip() for cell in row):
            continue
        place = f"{name} line {rows.line_num}"
        if not names:
            names = [cell.strip().replace("-", "_") for cell in row]
            _check_names(names, place)
            if len(set(names)) < len(names):
                twice = next(one for one in names if names.count(one) > 1)
                raise InputError(f"{place}: there are two columns {twice}")
            continue
        if len(row) > len(names):
            raise InputError(
                f"{place} has {len(row)} cells for {len(names)} columns; put a text with commas "
                "in quotes"
            )
        cells = zip(names, row, strict=False)
        yield place, {one: _value(known[one], cell) for one, cell in cells if cell.strip()}


def _value(schema: Schema, text: str) -> object:
    """What a cell gives for an option; what cannot be read stays text, which is then refused."""
    kind, text = schema.get("type", ""), text.strip()
    if kind == "boolean":
        return _TRUTHS.get(text.lower(), text)
    try:
        return _NUMBERS[kind](text) if kind in _NUMBERS else text
    except ValueError:
        return text


def _check_names(names: Mapping[str, object] | list[str], place: str) -> None:
    known = declared(Settings)
    for name in names:
        if name == "job":
            raise InputError(f"{place}: a batch keeps what is finished by itself; leave out job")
        if name not in known:
            raise InputError(f"{place}: {unknown_option(str(name), known)}")


def _read_folder(folder: Path, output: Path) -> list[Entry]:
    """A job for each video, each picture and each folder of pictures."""
    try:
        paths = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=natural)
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    clips = [path for path in paths if path.absolute() != output.absolute() and _is_clip(path)]
    left = [path.name for path in paths if path not in clips]
    if not clips:
        raise InputError(f"{folder} holds no clips and no pictures")
    if left:
        more = ", ..." if len(left) > 5 else ""
        _log.info("%s: left out, as no clips: %s%s", folder, ", ".join(left[:5]), more)
    return [Entry(place=str(path), values={"source": str(path.absolute())}) for path in clips]


def _is_clip(path: Path) -> bool:
    if path.is_dir():
        return any(is_image_name(inner) for inner in path.iterdir())
    return is_image_name(path) or is_video_name(path)
