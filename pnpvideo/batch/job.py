"""One job of a batch, ready to be run anywhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pnpvideo.options.settings import Settings
from pnpvideo.run.outputs import Outputs

State = Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that is checked, with all paths absolute.

    id: what it makes, of what and how, as a short text; other settings or another source, another
    id. place: where it stands, as a person finds it. source: as it was given: it may be an
    address, of which the settings name a copy. frames: of the source, and so of each result.
    inversion: a short text that jobs with the same inversion share; None where none is kept.
    model: the same for jobs that one loaded model serves.
    """

    id: str
    place: str
    source: str | None
    settings: Settings
    outputs: Outputs
    frames: int
    inversion: str | None
    model: str

    @property
    def name(self) -> str:
        """Its result's, as a person calls it."""
        return Path(self.outputs.output.rstrip("/")).name

    @property
    def files(self) -> tuple[Path, ...]:
        """All that it writes: results and comparisons, and their settings last."""
        written = (*self.outputs.results, *self.outputs.compares)
        return (*(Path(path.rstrip("/")) for path in written), self.outputs.record)


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of a long job, made by itself: number 0 to count - 1, some of which may be empty."""

    job: Job
    number: int
    count: int


Task = Job | Span
"""What a worker does at a time: a job, or a span of one whose other spans others make."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of a job, as it is kept.

    error: why it failed. notices: what it warned of. seconds: that its last run took, all
    its spans together. finished: seconds since 1970. stamps: of its files when they were read back
    (see `stamp_of`).
    """

    state: State = "waiting"
    error: str = ""
    notices: tuple[str, ...] = ()
    seconds: float = 0.0
    finished: float = 0.0
    worker: str = ""
    stamps: tuple[str, ...] = ()


def stamp_of(path: Path) -> str:
    """What changes when a file, or what a folder holds, is changed; '' where there is none."""
    try:
        if path.is_dir():
            return " ".join(f"{inner.name} {_stamp(inner)}" for inner in sorted(path.iterdir()))
        return _stamp(path)
    except OSError:
        return ""


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"
