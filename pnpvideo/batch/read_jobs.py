"""Read jobs as people write them: lines of JSON, rows of a table, or clips in a folder."""

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pnpvideo.clips.find_images import is_image_name, is_video_name, natural
from pnpvideo.errors import InputError
from pnpvideo.files.read_text import parse_yaml, read_text
from pnpvideo.files.tables import TABLE_SUFFIXES, Row, number_as_text, read_table, row_of, text_of
from pnpvideo.options.declared import Schema, declared, given_name, unknown_option
from pnpvideo.options.settings import Settings
from pnpvideo.options.settings_file import with_paths_from

_log = logging.getLogger(__name__)

_TRUTHS = {
    **dict.fromkeys(("true", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "no", "n", "off", "0"), False),
}
_YAML = (".yaml", ".yml")
_COMMA = re.compile(r"([+-]?\d+),(\d+)")
_NOTHING = ("nan", "null", "none", "n/a", "na")
"""Texts that programs write in place of a number or a truth that is not given."""


@dataclass(frozen=True, kw_only=True)
class JobEntry:
    """The settings of one job, perhaps incomplete.

    place: where the user wrote them. names_source: whether the place ends with the source's name.
    given: by a path in the values, how the user wrote it, if otherwise.
    """

    place: str
    values: dict[str, object]
    names_source: bool = False
    given: Mapping[str, str] = field(default_factory=dict)

    def as_given(self, text: str) -> str:
        """Return a text with paths as the user wrote them."""
        for path in sorted(self.given, key=len, reverse=True):
            text = text.replace(path, self.given[path])
        return text


def read_jobs(path: Path, output: Path) -> list[JobEntry]:
    """Return all jobs of a file or folder; paths to read are relative to its folder.

    output: the folder of the results, which is not searched for clips. InputError if something in
    the list is not a job, or there are none.
    """
    if path.is_dir():
        return _read_folder(path, output)
    suffix = path.suffix.lower()
    if suffix not in (*TABLE_SUFFIXES, *_YAML):
        known = ", ".join((*TABLE_SUFFIXES, *_YAML))
        raise InputError(f"{path} is not a list of jobs; give {known}, or a folder")
    folder = path.absolute().parent
    entries = []
    for row in _read_yaml(path) if suffix in _YAML else read_table(path, _check_names):
        values = _options_of(row.values)
        # The path of a result is relative to the folder of the results.
        placed = with_paths_from(folder, values) | _output_of(values)
        is_named = row.place == f"{path.name} {values.get('source')}"
        given = {
            str(path): text_of(values[name])
            for name, path in placed.items()
            if name in values and path != values[name]
        }
        entries.append(JobEntry(place=row.place, values=placed, names_source=is_named, given=given))
    if not entries:
        raise InputError(f"{path} has no jobs in it")
    return entries


def _read_yaml(path: Path) -> Iterator[Row]:
    """Yield the jobs of a YAML file.

    It has lines 'source: prompt', in which settings can stand in place of the prompt; or a list of
    jobs; or the settings of one.
    """
    found = parse_yaml(read_text(path), path.name)
    if isinstance(found, Mapping) and "source" in found:
        placed = [(path.name, found)]
    elif isinstance(found, Mapping):
        own = [dict(one) if isinstance(one, Mapping) else {"prompt": one} for one in found.values()]
        sources = [text_of(name) for name in found]
        placed = [
            (f"{path.name} {source}", {"source": source} | values)
            for source, values in zip(sources, own, strict=True)
        ]
    else:
        jobs = found if isinstance(found, list) else [] if found is None else [found]
        placed = [(f"{path.name} entry {number}", job) for number, job in enumerate(jobs, 1)]
    for place, job in placed:
        if not isinstance(job, Mapping):
            raise InputError(f"{place} is not a job; write 'source: ...' and 'prompt: ...' lines")
        yield row_of({text_of(name): value for name, value in job.items()}, place, _check_names)


def _output_of(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if name == "output"}


def _check_names(names: Sequence[str], place: str) -> None:
    known = declared(Settings)
    given = [given_name(Settings, name) for name in names]
    for name, option in zip(names, given, strict=True):
        if option == "job":
            raise InputError(f"{place}: a batch keeps finished steps by itself; leave out job")
        if option not in known:
            raise InputError(f"{place}: {unknown_option(name, known)}")
        if given.count(option) > 1:
            raise InputError(f"{place}: {name} and {option} are the same option; give one of them")


def _options_of(row: Mapping[str, object]) -> dict[str, object]:
    """Return a row's values as options, without those that are not given."""
    known, values = declared(Settings), dict[str, object]()
    for column, value in row.items():
        name = given_name(Settings, column)
        values[name] = _value(known[name], value)
    return {name: value for name, value in values.items() if value is not None}


def _value(schema: Schema, value: object) -> object:
    """Convert a value of a table to an option's type; if that fails, leave it to the check.

    None for a text such as "null" or "n/a".
    """
    kind = schema.get("type", "")
    if kind == "array" and isinstance(value, list):
        return [number_as_text(each) for each in value]
    if kind in ("string", "array"):
        return number_as_text(value)
    if isinstance(value, str) and value.lower() in _NOTHING:
        return None
    if kind == "boolean":
        return _TRUTHS.get(text_of(value).lower(), value)
    return _number(value, whole=kind == "integer")


def _number(value: object, *, whole: bool) -> object:
    """Return a number for its text, 1 for 1.0 if it is to be whole, and others unchanged."""
    number = value
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return int(value)
        try:
            # Spreadsheets write a decimal comma in half of the world.
            number = float(value if whole else _COMMA.sub(r"\1.\2", value))
        except ValueError:
            return value
    return int(number) if whole and isinstance(number, float) and number.is_integer() else number


def _read_folder(folder: Path, output: Path) -> list[JobEntry]:
    """Return a job for each video, each picture and each folder of pictures."""
    try:
        paths = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=natural)
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    clips = [path for path in paths if path.absolute() != output.absolute() and _is_clip(path)]
    found = set(clips)
    others = [path.name for path in paths if path not in found]
    if not clips:
        raise InputError(f"{folder} has no clips and no pictures in it")
    if others:
        more = ", ..." if len(others) > 5 else ""
        _log.info("%s: skipped, as not clips: %s%s", folder, ", ".join(others[:5]), more)
    placed = [(str(path), str(path.absolute())) for path in clips]
    return [
        JobEntry(place=path, values={"source": source}, names_source=True, given={source: path})
        for path, source in placed
    ]


def _is_clip(path: Path) -> bool:
    if path.is_dir():
        return any(is_image_name(inner) for inner in path.iterdir())
    return is_image_name(path) or is_video_name(path)
