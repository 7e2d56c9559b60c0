"""Keep visitors' runs, each in its own folder, where a reload or a restart finds them."""

import hashlib
import json
import logging
import re
import secrets
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import yaml
from PIL import Image

from pnpvideo.errors import RunError
from pnpvideo.files.atomic_output import renamed
from pnpvideo.files.read_text import parse_json, read_text
from pnpvideo.options.settings_file import read_settings
from pnpvideo.pixels.mask import Weights

JobKind = Literal["translate", "thresholds", "mask"]
JobState = Literal["waiting", "running", "done", "failed", "stopped"]

MASK = "mask.png"
STOP = "stop"
"""The file that asks the server to stop a job, in its folder."""
_RECORD, _SETTINGS = "job.json", "settings.yaml"
_NAME = re.compile(r"\d{13}-[0-9a-f]{24}")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """A person at the page.

    key: by which their runs are found. place: by which waiting runs are counted, the name of the
    login or the address.
    """

    key: str
    place: str


@dataclass(frozen=True, kw_only=True)
class WebJob:
    """One run of one visitor.

    visitor, place: see `Visitor`, as hashes. model: its name on the page. created: seconds since
    1970. message: the outcome in words. notices: what was logged as warnings on the way. results:
    names of files in the folder.
    """

    folder: Path
    visitor: str
    place: str = ""
    kind: JobKind
    model: str
    state: JobState = "waiting"
    created: float
    message: str = ""
    notices: tuple[str, ...] = ()
    results: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the folder, which nobody can guess."""
        return self.folder.name

    @property
    def is_over(self) -> bool:
        return self.state not in ("waiting", "running")

    @property
    def values(self) -> dict[str, object]:
        """The settings that the visitor gave. The files that they name are in this folder."""
        return read_settings(self.folder / _SETTINGS)

    def files(self, pattern: str) -> list[Path]:
        return sorted(self.folder.glob(pattern))


class JobStore:
    """The jobs in a folder, which this process alone changes, and whose records it has in memory.

    Any thread may call any method.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._changing = threading.RLock()
        self._jobs: dict[str, WebJob] = {}
        self._of: dict[str, dict[str, None]] = {}  # The names by visitor, in order.
        self._unfinished: dict[str, None] = {}
        for path in sorted(folder.iterdir()):
            if (job := read_job(path)) is not None:
                self._remember(job)

    def add(
        self,
        kind: JobKind,
        visitor: Visitor,
        model: str,
        source: Path | None,
        values: Mapping[str, object],
        mask: Weights | None = None,
    ) -> WebJob:
        """Add a waiting job, with its own copy of the source. On any exception, nothing is left.

        source: None if the model generates it. values: settings without source and output.
        mask: (height, width), becomes the mask of the settings.
        """
        now = time.time()
        folder = self.folder / f"{int(now * 1000):013d}-{secrets.token_hex(12)}"
        job = WebJob(
            folder=folder,
            visitor=_hash(visitor.key),
            place=_hash(visitor.place),
            kind=kind,
            model=model,
            created=now,
        )
        folder.mkdir()
        try:
            own = dict(values)
            if source is not None:
                own["source"] = _copied(source, folder)
            if mask is not None:
                Image.fromarray(mask).save(folder / MASK)
                own["mask"] = MASK
            text = yaml.safe_dump(own, sort_keys=False, allow_unicode=True)
            (folder / _SETTINGS).write_text(text, encoding="utf-8")
            self._save(job)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._remember(job)
        return job

    def update(self, job: WebJob, **changes: object) -> WebJob:
        """Change fields of a job, and save it.

        If the disk refuses, the change is in memory only: a later server repeats the run.
        """
        changed = replace(job, **changes)  # type: ignore[arg-type]
        self._remember(changed)
        try:
            self._save(changed)
        except (OSError, RunError) as error:
            _log.warning("the state of job %s is not saved: %s", job.name, error)
        return changed

    def delete(self, job: WebJob) -> None:
        """Forget a job, and delete its files."""
        with self._changing:
            self._jobs.pop(job.name, None)
            self._unfinished.pop(job.name, None)
            names = self._of.get(job.visitor, {})
            names.pop(job.name, None)
            if not names:
                self._of.pop(job.visitor, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def all(self) -> list[WebJob]:
        """Return all jobs, the oldest first. Folders without a job are skipped."""
        with self._changing:
            return list(self._jobs.values())

    def unfinished(self) -> list[WebJob]:
        """Return the jobs that wait or run, the oldest first."""
        with self._changing:
            return [self._jobs[name] for name in self._unfinished]

    def waiting(self, visitor: Visitor) -> int:
        """Return how many jobs wait or run from the place of a visitor."""
        place = _hash(visitor.place)
        return sum(job.place == place for job in self.unfinished())

    def of(self, visitor: Visitor, most: int | None = None) -> list[WebJob]:
        """Return a visitor's own jobs, the newest first. most: return no more than this."""
        with self._changing:
            names = reversed(self._of.get(_hash(visitor.key), {}))
            return [self._jobs[name] for name in islice(names, most)]

    def get(self, name: str, visitor: Visitor) -> WebJob | None:
        """Return a visitor's own job by its name."""
        job = self._jobs.get(name)
        return None if job is None or job.visitor != _hash(visitor.key) else job

    def sweep(self, seconds: float) -> None:
        """Delete jobs that are over and were created longer ago than this."""
        for job in self.all():
            if job.is_over and time.time() - job.created > seconds:
                self.delete(job)

    def delete_half_made(self) -> None:
        """Delete what a server left that ended while it added a job."""
        for path in self.folder.iterdir():
            if _NAME.fullmatch(path.name) and path.name not in self._jobs and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)

    def _remember(self, job: WebJob) -> None:
        with self._changing:
            self._jobs[job.name] = job
            self._of.setdefault(job.visitor, {})[job.name] = None
            if job.is_over:
                self._unfinished.pop(job.name, None)
            else:
                self._unfinished[job.name] = None

    def _save(self, job: WebJob) -> None:
        record = {name: value for name, value in asdict(job).items() if name != "folder"}
        part = job.folder / f"{_RECORD}.{secrets.token_hex(4)}.part"
        with renamed(part, job.folder / _RECORD):
            part.write_text(json.dumps(record))


def _hash(text: str) -> str:
    """Return the SHA-256 of a visitor's key or place: enough to recognise, not to impersonate."""
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


def _copied(source: Path, folder: Path) -> str:
    """Copy a source into a job's folder; return the copy's path within it."""
    place = folder / "source" / source.name
    place.parent.mkdir()
    if source.is_dir():
        shutil.copytree(source, place)
    else:
        shutil.copyfile(source, place)
    return str(place.relative_to(folder))


def read_job(folder: Path) -> WebJob | None:
    """Return the job in a folder; None if there is none."""
    try:
        record: Any = parse_json(read_text(folder / _RECORD), folder / _RECORD)
        lists = {name: tuple(record.get(name, ())) for name in ("notices", "results")}
        return WebJob(folder=folder, **{**record, **lists})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
