"""Turns the entries of a list into jobs: runs that are checked before the first one starts."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pnpvideo.batch.addresses import fetch
from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.job import Job, Skipped, stamp_of
from pnpvideo.batch.names import Names, in_the_way, name_of
from pnpvideo.batch.read_jobs import JobEntry
from pnpvideo.catalogue.ask_model import check_makes_sources, words_for
from pnpvideo.catalogue.unknown_words import check_named
from pnpvideo.clips.clip import Clip
from pnpvideo.errors import InputError
from pnpvideo.files.file_names import place_of
from pnpvideo.files.own_names import make_own_folder
from pnpvideo.options.adapter import AdapterSettings
from pnpvideo.options.declared import Lifetime
from pnpvideo.options.model import ModelSettings
from pnpvideo.options.paths import is_address
from pnpvideo.options.printed import shown_address
from pnpvideo.options.settings import Settings
from pnpvideo.run.opening import check_additions, read_inputs
from pnpvideo.run.outputs import fitting, plan_outputs
from pnpvideo.storage import fingerprint

_TEXTS = ("prompt", "negative_prompt", "seed", "output")
"""Settings that no check of the inputs depends on."""
_READ = ("source", "mask", "control_image", "ip_adapter_image")
"""Settings that name a file to read, which may be at an address."""


class _BrokenError(InputError):
    """A file that a job reads is missing or damaged."""


def plan(
    entries: Sequence[JobEntry],
    folder: BatchFolder,
    *,
    name: str | None = None,
    overwrite: bool = False,
    skipped: list[Skipped] | None = None,
) -> list[Job]:
    """Return the jobs of all entries, with their results in the folder of a batch.

    name: the template of the results' names (see `Names`). overwrite: whether results may have the
    names of files that exist.
    skipped: gets those whose files are missing or damaged. InputError, with the place in the list,
    for the first of these if it is None, and for the first entry that cannot be run for another
    reason or that would overwrite files of another. Nothing is changed, but files at addresses are
    copied.
    """
    jobs: list[Job] = []
    planned: list[tuple[int, JobEntry]] = []
    sources, names = _Sources(), Names(entries, folder, name, overwrite=overwrite)
    for number, entry in enumerate(entries, 1):
        try:
            jobs.append(_plan_one(entry, number, folder, sources, names))
            planned.append((number, entry))
        except InputError as error:
            if skipped is None or not isinstance(error, _BrokenError):
                raise InputError(_placed(entry, error)) from None
            skipped.append(_skipped(entry, _placed(entry, error)))
    for taken in (1, 2):
        for place in in_the_way(jobs):
            number, entry = planned[place]
            jobs[place] = _plan_one(entry, number, folder, sources, names, taken=taken)
    _check_apart(jobs)
    return jobs


def _placed(entry: JobEntry, error: InputError) -> str:
    """Return the text of an error with the place of its entry, which names the source once."""
    text, source = map(entry.as_given, (str(error), str(entry.values.get("source"))))
    if entry.names_source and text.startswith(f"{source} "):
        return f"{entry.place}{text[len(source) :]}"
    return text if text.startswith(entry.place) else f"{entry.place}: {text}"


def _skipped(entry: JobEntry, error: str) -> Skipped:
    source, given = entry.values.get("source"), entry.values.get("prompt", ())
    return Skipped(
        place=entry.place,
        source=None if source is None else shown_address(str(source)),
        prompt=tuple(map(str, given)) if isinstance(given, list | tuple) else (str(given),),
        error=error,
    )


@contextlib.contextmanager
def _broken_files() -> Iterator[None]:
    """Raise errors of reading files as `_BrokenError`."""
    try:
        yield
    except InputError as error:
        raise _BrokenError(str(error)) from None


class _Sources:
    """The source that was checked last. Entries that differ only in their texts share it."""

    def __init__(self) -> None:
        self._key = ""
        self._clip: Clip | None = None

    def check(self, settings: Settings, values: Mapping[str, object]) -> Clip | None:
        """Return the source of some settings, closed, after checking all inputs. None: no source.

        values: the settings as they are given.
        """
        key = repr(sorted((k, repr(v)) for k, v in values.items() if k not in _TEXTS))
        if key != self._key:
            with _broken_files(), contextlib.ExitStack() as open_things:
                self._clip = read_inputs(settings, open_things).clip
            check_additions(settings)
            known = words_for(settings)
            check_makes_sources(settings.guidance_prompt, known)
            check_named(settings.mask_from_prompt, known)
            self._key = key
        return self._clip


def _plan_one(
    entry: JobEntry,
    number: int,
    folder: BatchFolder,
    sources: _Sources,
    names: Names,
    *,
    taken: int = 0,
) -> Job:
    """Return the job of an entry. number: its place in the list, from 1. taken: as in `Names`."""
    with _broken_files():
        values = {name: _copied(name, value, folder) for name, value in entry.values.items()}
    if values != entry.values:  # PyAV alone reads what comes from elsewhere.
        values |= {"reader": "av"}
    given = Settings.of(values)
    clip = sources.check(given, values)
    source = None if given.source is None else shown_address(str(entry.values["source"]))

    def make(output: str) -> Job:
        settings = Settings.of(values | {"output": output})
        return Job(
            id=_identity(settings, Lifetime.FINISHING),
            place=entry.place,
            source=source,
            shown_source=entry.as_given(source or ""),
            settings=settings,
            outputs=plan_outputs(settings, clip, overwrite=True),
            frames=1 if clip is None else len(clip),
            # A source that the model makes is not inverted.
            inversion=None if clip is None else _identity(settings, Lifetime.INVERSION),
            model=fingerprint.of_values(settings.part(ModelSettings), _adapter(settings)),
        )

    def make_named(template: str) -> Job:
        name = name_of(template, given, clip, number)
        return make(fitting(_below(folder.output, name), given))

    if given.output is not None:
        return make(_below(folder.output, given.output))
    taken = max(taken, names.is_one_of_several(entry, given))
    return names.choose(names.templates(given), make_named, taken=taken)


def _copied(name: str, value: object, folder: BatchFolder) -> object:
    """Return a setting's value; a file to read that is at an address is copied first."""
    if name in _READ and isinstance(value, str) and is_address(value):
        make_own_folder(folder.path)
        make_own_folder(folder.path / "sources")
        return str(fetch(value, folder.path / "sources"))
    return value


def _below(folder: Path, name: str) -> str:
    """Return the path of a result in the folder of results. InputError if it is not below it."""
    path, outermost = Path(name), Path(os.path.normpath(folder))
    is_home = name == "~" or name.startswith(("~/", "~\\"))
    place = Path(os.path.normpath(outermost / path))
    if is_home or ".." in path.parts or outermost not in place.parents:
        raise InputError(f"the output {name} is not in the folder of results; give a name in it")
    # A path drops a slash at the end, which names a folder.
    return f"{path if path.is_absolute() else folder / path}{'/' * name.endswith('/')}"


def _adapter(settings: Settings) -> dict[str, object]:
    """Return the settings of the IP-Adapter that a model is loaded with."""
    values = settings.affecting(Lifetime.INVERSION)
    return {name: values[name] for name in AdapterSettings.model_fields if name in values}


def _identity(settings: Settings, part: Lifetime) -> str:
    """Return a hash of all that changes this part of a run or one before it: the settings, and the
    files that they name.
    """
    values = settings.affecting(part)
    read = [values.get(name) for name in _READ]
    stamps = ["" if path is None else stamp_of(Path(str(path))) for path in read]
    return fingerprint.of_values(values, stamps)


def _check_apart(jobs: Sequence[Job]) -> None:
    """Raise InputError if a job would write what another one writes or reads."""
    sources = {
        Path(job.settings.source).resolve(): job for job in jobs if job.settings.source is not None
    }
    written: dict[Path, tuple[Job, Path]] = {}
    for job in jobs:
        places = [place_of(path) for path in job.files]
        for path, place in zip(job.files, places, strict=True):
            others = (written[one] for one in (place, *place.parents) if one in written)
            if (other := next(others, None)) is not None:
                raise InputError(_written_twice(job, path, *other))
            if path.resolve() in sources:
                raise InputError(
                    f"{job.place} would write over {path}, the source of "
                    f"{sources[path.resolve()].place}; choose another folder"
                )
        written |= {place: (job, path) for path, place in zip(job.files, places, strict=True)}


def _written_twice(job: Job, path: Path, other: Job, other_path: Path) -> str:
    """Return the text of the error for two jobs, or one, that write the same file on some disk."""
    if (
        path.resolve() != other_path.resolve()
        and other_path.resolve() not in path.resolve().parents
    ):
        what = f"{path} and {other_path.name}, which some disks take for one file"
    else:
        what = str(path)
    if other.place != job.place:
        return (
            f"{job.place} and {other.place} would both write {what}; give one of them another "
            "output, or all of them a name with {n} (--name)"
        )
    return (
        f"{job.place} would write {what} twice; give its prompts once each, or a name with {{n}} "
        "(--name)"
    )
