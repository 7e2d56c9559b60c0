"""A folder that several processes work in, each of which reads and writes whole files only."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pnpvideo.errors import InputError
from pnpvideo.files.atomic_output import renamed, write_error
from pnpvideo.files.file_lock import take_lock

_CLAIMS, _SETTINGS = "claims", "run.json"


class SharedFolder:
    """claims/ holds the locks of who is at work on what; run.json what results are made with."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self, *names: str) -> None:
        """The folder, and folders in it, where they are missing. RunError where it cannot be."""
        for name in (_CLAIMS, *names):
            try:
                (self.path / name).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise write_error(self.path, error) from None

    def write_json(self, path: Path, value: object) -> None:
        """RunError where the disk is full or fails."""
        self.write_text(path, json.dumps(value, indent=1, ensure_ascii=False))

    def write_text(self, path: Path, text: str) -> None:
        """Whole or not at all, whoever else writes it. RunError where the disk is full or fails."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        with renamed(part, path):
            part.write_text(text, encoding="utf-8", newline="")

    def check_settings(self, settings: Mapping[str, object]) -> None:
        """Keep what results are made with. InputError where others were made differently."""
        if self.has_settings:
            before = json.loads((self.path / _SETTINGS).read_text(encoding="utf-8"))
            for name in sorted(before.keys() | settings.keys()):
                if before.get(name) != settings.get(name):
                    raise InputError(
                        f"{self.path} holds results with {name} {before.get(name)!r}, not "
                        f"{settings.get(name)!r}; choose another folder"
                    )
            return
        self.keep_settings(settings)

    @property
    def has_settings(self) -> bool:
        """Whether it is told what its results are made with."""
        return (self.path / _SETTINGS).is_file()

    def keep_settings(self, settings: Mapping[str, object]) -> None:
        """What results are made with from now on. RunError where the disk is full or fails."""
        self.write_json(self.path / _SETTINGS, dict(settings))

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Whether this process has the work of this name to itself within."""
        path = self.path / _CLAIMS / unique_name(name)
        with path.open("a+", encoding="utf-8") as file:
            try:
                taken = take_lock(file)
            except OSError:  # A network disk without locks.
                taken = True
            yield taken


def file_name(text: str) -> str:
    """A name for a file of any text."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_")[:100]


def unique_name(text: str) -> str:
    """A name for a file that no other text has."""
    return f"{file_name(text)[:60]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
