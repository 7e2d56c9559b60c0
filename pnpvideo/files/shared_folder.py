"""A folder that several processes share, each reading and writing only whole files."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pnpvideo.errors import InputError
from pnpvideo.files.atomic_output import renamed, write_error
from pnpvideo.files.file_lock import open_lock, take_lock
from pnpvideo.files.file_names import shortened
from pnpvideo.files.own_names import make_own_folder
from pnpvideo.files.read_text import JsonObject, parse_json, read_text

_CLAIMS, _SETTINGS = "claims", "run.json"

_LONGEST = 240
"""The most bytes of such a name, so that there is room for a suffix."""


class SharedFolder:
    """A shared folder: claims/ has a lock for each piece of work, run.json the settings."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self, *names: str) -> None:
        """Create the folder and folders in it if they are missing. Raise RunError on failure."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file; choose another name for the folder")
        for name in (_CLAIMS, *names):
            try:
                make_own_folder(self.path / name)
            except OSError as error:
                raise write_error(self.path, error) from None

    def write_json(self, path: Path, value: object) -> None:
        """Write a value as JSON. Raise RunError if the disk is full or fails."""
        self.write_text(path, json.dumps(value, indent=1, ensure_ascii=False))

    def write_text(self, path: Path, text: str) -> None:
        """Write a file atomically, even if others write it. Raise RunError if the disk fails."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        with renamed(part, path), part.open("xb") as file:
            # Names that are not UTF-8 are written as JSON escapes them.
            file.write(text.encode(errors="backslashreplace"))

    def check_settings(self, settings: Mapping[str, object]) -> None:
        """Save the settings of the results. Raise InputError if the folder has other settings."""
        if self.has_settings:
            path = self.path / _SETTINGS
            saved = parse_json(read_text(path), path)
            if not isinstance(saved, JsonObject):
                raise InputError(f"{path} is damaged; choose another folder")
            for name in sorted(saved.keys() | settings.keys()):
                if saved.get(name) != settings.get(name):
                    raise InputError(
                        f"{self.path} holds results with {name} {saved.get(name)!r}, not "
                        f"{settings.get(name)!r}; choose another folder"
                    )
            return
        self.keep_settings(settings)

    @property
    def has_settings(self) -> bool:
        """Return whether run.json exists."""
        return (self.path / _SETTINGS).is_file()

    def keep_settings(self, settings: Mapping[str, object]) -> None:
        """Save the settings of the results. Raise RunError if the disk is full or fails."""
        self.write_json(self.path / _SETTINGS, dict(settings))

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Keep a claim on the work of this name, and yield whether this process got it."""
        path = self.path / _CLAIMS / unique_name(name)
        with open_lock(path) as file:
            try:
                is_locked = take_lock(file)
            except OSError:  # A network disk that does not support locks.
                is_locked = True
            yield is_locked


def file_name(text: str) -> str:
    """Return a file name made from any text."""
    return shortened(re.sub(r"[^\w.-]+", "_", text).strip("_")[:100], _LONGEST)


def unique_name(text: str, identity: str | None = None) -> str:
    """Return a file name that is different for each text.

    identity: in place of the text, what the name is different for; it cannot be read from it.
    """
    whole = (text if identity is None else identity).encode(errors="surrogatepass")
    return f"{file_name(text)[:60]}-{hashlib.sha256(whole).hexdigest()[:8]}"
