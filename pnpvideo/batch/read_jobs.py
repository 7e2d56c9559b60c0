"""Read jobs as people write them: lines of JSON, rows of a table, or clips in a folder."""

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
class JobEntry:
    """The settings of one job, perhaps incomplete. place: where the user wrote them."""

    place: str
    values: dict[str, object]


def read_jobs(path: Path, output: Path) -> list[JobEntry]:
    """Return all jobs of a file or folder; paths to read are relative to its folder.

    output: the folder of the results, which is not searched for clips. InputError if something in
    the list is not a job, or there are none.
    """
    if path.is_dir():
        return _read_folder(path, output)
    readers = {".jsonl": _read_lines, ".csv": _read_table}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path} is not a list of jobs; give a .jsonl or .csv file, or a folder")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text in UTF-8") from None
    folder = path.absolute().parent
    entries = [
        # The path of a result is relative to the folder of the results.
        JobEntry(place=place, values=with_paths_from(folder, values) | _output_of(values))
        for place, values in readers[path.suffix.lower()](text, path.name)
    ]
    if not entries:
        raise InputError(f"{path} has no jobs in it")
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
            raise InputError(f"{place} is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise InputError(f'{place} has no settings; write {{"source": ..., "prompt": ...}}')
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
            raise InputError(f"{name} line {rows.line_num} is not CSV: {error}") from None
        if row is None:
            return
        if not any(cell.strip() for cell in row):
            continue
        place = f"{name} line {rows.line_num}"
        if not names:
            names = [cell.strip().replace("-", "_") for cell in row]
            _check_names(names, place)
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise InputError(f"{place}: there are two columns {twice}")
            continue
        if len(row) > len(names):
            raise InputError(
                f"{place} has {len(row)} cells for {len(names)} columns; put a text with commas "
                "in quotes"
            )
        cells = zip(names, row, strict=False)
        yield place, {name: _value(known[name], cell) for name, cell in cells if cell.strip()}


def _value(schema: Schema, text: str) -> object:
    """Convert a cell to an option's type; if that fails, leave the text to the check."""
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
            raise InputError(f"{place}: a batch keeps finished steps without it; leave out job")
        if name not in known:
            raise InputError(f"{place}: {unknown_option(str(name), known)}")


def _read_folder(folder: Path, output: Path) -> list[JobEntry]:
    """Return a job for each video, each picture and each folder of pictures."""
    try:
        paths = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=natural)
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    clips = [path for path in paths if path.absolute() != output.absolute() and _is_clip(path)]
    others = [path.name for path in paths if path not in clips]
    if not clips:
        raise InputError(f"{folder} has no clips and no pictures in it")
    if others:
        more = ", ..." if len(others) > 5 else ""
        _log.info("%s: skipped, as not clips: %s%s", folder, ", ".join(others[:5]), more)
    return [JobEntry(place=str(path), values={"source": str(path.absolute())}) for path in clips]


def _is_clip(path: Path) -> bool:
    if path.is_dir():
        return any(is_image_name(inner) for inner in path.iterdir())
    return is_image_name(path) or is_video_name(path)
