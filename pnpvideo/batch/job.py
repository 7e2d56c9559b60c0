"""A job of a batch, ready to be run in any process."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pnpvideo.errors import InputError
from pnpvideo.options.settings import Settings
from pnpvideo.run.outputs import Outputs

RecordState = Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that has been checked, with all paths absolute.

    id: a short text that is different for other settings or another source. place: where the user
    wrote the job, such as "jobs.csv line 2". source: its path or address; for an address, the
    settings name a local copy. shown_source: as the user wrote it; '' for none. frames: the frame
    count of the source, and so of each result.
    inversion: a short text that jobs with the same inversion share; None if none is kept.
    model: a short text that jobs which one loaded model serves share.
    """

    id: str
    place: str
    source: str | None
    shown_source: str = ""
    settings: Settings
    outputs: Outputs
    frames: int
    inversion: str | None
    model: str

    @property
    def name(self) -> str:
        """The name of the result; for several prompts, the beginning of the results' names."""
        return Path(self.outputs.output.rstrip("/")).name

    @property
    def shown(self) -> str:
        """The names of the results, for a line that people read."""
        names = [Path(path).name for path in self.outputs.results]
        return " to ".join((names[0], names[-1])) if len(names) > 2 else " and ".join(names)

    @property
    def clips(self) -> tuple[Path, ...]:
        """The results and comparisons, each with as many frames as the source."""
        return tuple(Path(path.rstrip("/")) for path in self.outputs.clips)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that the job writes: results and comparisons, and the settings last."""
        return tuple(Path(path.rstrip("/")) for path in self.outputs.files)


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A job that is left out because a file that it reads is broken.

    place, source: as in `Job`. error: what is wrong, with the place.
    """

    place: str
    source: str | None
    prompt: tuple[str, ...]
    error: str


def broken_files(skipped: Sequence[Skipped]) -> list[str]:
    """Return what is wrong with each broken file, once.

    Jobs of a source with several prompts have the same place, and so the same error.
    """
    return list(dict.fromkeys(one.error for one in skipped))


def cannot_be_made(skipped: Sequence[Skipped], *, listed: bool, some_left: bool) -> InputError:
    """Return the error for broken jobs. listed: whether they have been listed above it, or else
    there is one error. some_left: whether other jobs are left.
    """
    hint = "; --skip-broken makes the others" if some_left else ""
    if not listed:
        return InputError(f"{skipped[0].error}{hint}")
    count = f"{len(skipped)} {'job' if len(skipped) == 1 else 'jobs'}"
    return InputError(f"{count} cannot be made, as the list above says{hint}")


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of a long job. number: 0 to count - 1; the last ones may be empty."""

    job: Job
    number: int
    count: int


Task = Job | Span
"""The work that a worker gets at a time: a job, or a span of a job that several workers share."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """The stored facts about a job.

    error: why it failed. notices: its warnings. seconds: the time of its last run, with all of its
    spans. finished: seconds since 1970. stamps: those of its files when they were read back (see
    `stamp_of`).
    """

    state: RecordState = "waiting"
    error: str = ""
    notices: tuple[str, ...] = ()
    seconds: float = 0.0
    finished: float = 0.0
    worker: str = ""
    stamps: tuple[str, ...] = ()


def stamp_of(path: Path) -> str:
    """Return what changes when a file or a folder's content changes; '' if there is none."""
    try:
        if path.is_dir():
            return " ".join(f"{inner.name} {_stamp(inner)}" for inner in sorted(path.iterdir()))
        return _stamp(path)
    except OSError:
        return ""


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"
