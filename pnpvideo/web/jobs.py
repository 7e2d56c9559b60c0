"""Keep visitors' runs, each in its own folder, where a reload or a restart finds them.

A visitor is known by the name of the login, or by a secret that the browser keeps.
"""

import contextlib
import hashlib
import json
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import gradio as gr
import yaml
from PIL import Image

from pnpvideo.files.atomic_output import renamed
from pnpvideo.options.settings_file import read_settings
from pnpvideo.pixels.mask import Weights

JobKind = Literal["translate", "thresholds", "mask"]
JobState = Literal["waiting", "running", "done", "failed", "stopped"]

MASK = "mask.png"
SWEEP_SECONDS = 600
"""The longest time between two deletions of old runs."""
_RECORD, _SETTINGS = "job.json", "settings.yaml"


@dataclass(frozen=True, kw_only=True)
class WebJob:
    """One run of one visitor.

    visitor: see `visitor_hash`. model: its name on the page. created: seconds since 1970.
    message: the outcome in words. results: names of files in the folder.
    """

    folder: Path
    visitor: str
    kind: JobKind
    model: str
    state: JobState = "waiting"
    created: float
    message: str = ""
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
    """The jobs in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        kind: JobKind,
        visitor: str,
        model: str,
        source: Path | None,
        values: Mapping[str, object],
        mask: Weights | None = None,
    ) -> WebJob:
        """Add a waiting job, with its own copy of the source.

        source: None if the model generates it. values: settings without source and output.
        mask: (height, width), becomes the mask of the settings.
        """
        now = time.time()
        folder = self.folder / f"{int(now * 1000):013d}-{secrets.token_hex(12)}"
        folder.mkdir()
        own = dict(values)
        if source is not None:
            place = folder / "source" / source.name
            place.parent.mkdir()
            if source.is_dir():
                shutil.copytree(source, place)
            else:
                shutil.copyfile(source, place)
            own["source"] = str(place.relative_to(folder))
        if mask is not None:
            Image.fromarray(mask).save(folder / MASK)
            own["mask"] = MASK
        text = yaml.safe_dump(own, sort_keys=False, allow_unicode=True)
        (folder / _SETTINGS).write_text(text, encoding="utf-8")
        job = WebJob(
            folder=folder, visitor=visitor_hash(visitor), kind=kind, model=model, created=now
        )
        self._save(job)
        return job

    def update(self, job: WebJob, **changes: object) -> WebJob:
        """Change fields of a job, and save it."""
        changed = replace(job, **changes)  # type: ignore[arg-type]
        self._save(changed)
        return changed

    def all(self) -> list[WebJob]:
        """Return all jobs, the oldest first. Folders without a job are skipped."""
        found = (_read(path) for path in sorted(self.folder.iterdir()))
        return [job for job in found if job is not None]

    def of(self, visitor: str) -> list[WebJob]:
        """Return a visitor's own jobs, the newest first."""
        own = visitor_hash(visitor)
        return [job for job in reversed(self.all()) if job.visitor == own]

    def get(self, name: str, visitor: str) -> WebJob | None:
        """Return a visitor's own job by its name."""
        return next((job for job in self.of(visitor) if job.name == name), None)

    def sweep(self, seconds: float) -> None:
        """Delete jobs that are over and were created longer ago than this."""
        for job in self.all():
            if job.is_over and time.time() - job.created > seconds:
                shutil.rmtree(job.folder, ignore_errors=True)

    def _save(self, job: WebJob) -> None:
        record = {name: value for name, value in asdict(job).items() if name != "folder"}
        part = job.folder / f"{_RECORD}.{secrets.token_hex(4)}.part"
        with renamed(part, job.folder / _RECORD):
            part.write_text(json.dumps(record))


def visitor_hash(visitor: str) -> str:
    """Return the SHA-256 of a visitor's key: enough to recognise, not to impersonate."""
    return hashlib.sha256(visitor.encode()).hexdigest()


def _read(folder: Path) -> WebJob | None:
    try:
        record = json.loads((folder / _RECORD).read_text())
        return WebJob(folder=folder, **{**record, "results": tuple(record["results"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


@contextlib.contextmanager
def swept(store: JobStore, seconds: float) -> Iterator[None]:
    """Delete jobs of more than this age, once they are over, within this context."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(min(SWEEP_SECONDS, seconds)):
            store.sweep(seconds)

    store.sweep(seconds)
    thread = threading.Thread(target=work, name="sweep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Visitors:
    """The visitors of the page. key: the component that holds the browser's secret."""

    def __init__(self, folder: Path) -> None:
        """folder: the server's, which holds the key that encrypts browsers' secrets."""
        self.key = gr.BrowserState("", storage_key="pnpvideo", secret=_seal(folder))

    def greet(self, key: object) -> str:
        """Return the visitor's secret, a new one if there is none."""
        return key if isinstance(key, str) and len(key) >= 32 else secrets.token_hex(16)

    def visitor(self, key: object, request: gr.Request) -> str:
        """Return who a visitor is. Without a login and a secret, no run is found after a reload."""
        if request.username:
            return f"name {request.username}"
        return f"key {key}" if key else f"session {request.session_hash}"


def _seal(folder: Path) -> str:
    path = folder / "seal"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    return path.read_text()
