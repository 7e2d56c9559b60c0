"""Visitors' runs, each in a folder of its own, where a reload or a restart finds them, and who a
visitor is: the name of the login, or a secret that the browser keeps.
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

Kind = Literal["translate", "thresholds", "mask"]
State = Literal["waiting", "running", "done", "failed", "stopped"]

MASK = "mask.png"
SWEEP_SECONDS = 600
"""How often old runs are deleted, where things are kept that long."""
_RECORD, _SETTINGS = "job.json", "settings.yaml"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of one visitor.

    visitor: a hash of what the visitor shows. model: by the name it has on the page. created:
    seconds since 1970. message: what came of it. results: names of files in the folder.
    """

    folder: Path
    visitor: str
    kind: Kind
    model: str
    state: State = "waiting"
    created: float
    message: str = ""
    results: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Nobody can guess it."""
        return self.folder.name

    @property
    def is_over(self) -> bool:
        return self.state not in ("waiting", "running")

    @property
    def values(self) -> dict[str, object]:
        """The settings that the visitor gave; files that they name are in this folder."""
        return read_settings(self.folder / _SETTINGS)

    def files(self, pattern: str) -> list[Path]:
        return sorted(self.folder.glob(pattern))


class JobStore:
    """All jobs in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        kind: Kind,
        visitor: str,
        model: str,
        source: Path | None,
        values: Mapping[str, object],
        mask: Weights | None = None,
    ) -> Job:
        """A waiting job with a copy of its source, None where the model makes it. values: settings
        without source and output. mask: (height, width), to be theirs."""
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
        job = Job(folder=folder, visitor=hashed(visitor), kind=kind, model=model, created=now)
        self._save(job)
        return job

    def update(self, job: Job, **changes: object) -> Job:
        changed = replace(job, **changes)  # type: ignore[arg-type]
        self._save(changed)
        return changed

    def all(self) -> list[Job]:
        """The oldest first. Folders that hold no job are passed over."""
        found = (_read(path) for path in sorted(self.folder.iterdir()))
        return [job for job in found if job is not None]

    def of(self, visitor: str) -> list[Job]:
        """A visitor's own, the newest first."""
        own = hashed(visitor)
        return [job for job in reversed(self.all()) if job.visitor == own]

    def get(self, name: str, visitor: str) -> Job | None:
        """A visitor's own job by its name."""
        return next((job for job in self.of(visitor) if job.name == name), None)

    def sweep(self, seconds: float) -> None:
        """Delete jobs that are over and older."""
        for job in self.all():
            if job.is_over and time.time() - job.created > seconds:
                shutil.rmtree(job.folder, ignore_errors=True)

    def _save(self, job: Job) -> None:
        record = {name: value for name, value in asdict(job).items() if name != "folder"}
        part = job.folder / f"{_RECORD}.{secrets.token_hex(4)}.part"
        with renamed(part, job.folder / _RECORD):
            part.write_text(json.dumps(record))


def hashed(visitor: str) -> str:
    """What is kept of a visitor, which tells no other how to be that one."""
    return hashlib.sha256(visitor.encode()).hexdigest()


def _read(folder: Path) -> Job | None:
    try:
        record = json.loads((folder / _RECORD).read_text())
        return Job(folder=folder, **{**record, "results": tuple(record["results"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


@contextlib.contextmanager
def swept(store: JobStore, seconds: float) -> Iterator[None]:
    """Within, jobs that are over are deleted when they are older than so many seconds."""
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
    """key: the component that holds the browser's secret."""

    def __init__(self, folder: Path) -> None:
        """folder: of the server, which keeps what browsers' secrets are sealed with."""
        self.key = gr.BrowserState("", storage_key="pnpvideo", secret=_seal(folder))

    def greet(self, key: object) -> str:
        """A new visitor's secret, or the one that is there."""
        return key if isinstance(key, str) and len(key) >= 32 else secrets.token_hex(16)

    def visitor(self, key: object, request: gr.Request) -> str:
        """Of a visitor without either nothing is found again."""
        if request.username:
            return f"name {request.username}"
        return f"key {key}" if key else f"session {request.session_hash}"


def _seal(folder: Path) -> str:
    path = folder / "seal"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    return path.read_text()
