"""The folder of an evaluation: what is done, by method and item, and who is at work on what.

run.json                     the settings that results were made with
results/METHOD/...           results in the benchmark's layout
measured/METHOD/ITEM.json    values, with the networks that they are by
claims/                      locks of the processes that share the folder
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pnpvideo.atomic_output import renamed, write_error
from pnpvideo.errors import InputError
from pnpvideo.evaluation.items import file_name
from pnpvideo.file_lock import take_lock


@dataclass
class Measured:
    """What is known of one method's result of one item.

    values: by column, None where the result gives none. made_with: the networks by column.
    fingerprints: of the networks' weights, by role. features: that SFID compares. reason: why there
    is no result.
    """

    values: dict[str, float | None] = field(default_factory=dict)
    made_with: dict[str, str] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    features: list[float] | None = None
    reason: str | None = None


class RunFolder:
    """Reads and writes whole files only, so that several processes can share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("results", "measured", "claims"):
            try:
                (path / name).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise write_error(path, error) from None

    def check_settings(self, settings: Mapping[str, object]) -> None:
        """Keep what results are made with. InputError where others were made differently."""
        path = self.path / "run.json"
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            for name in sorted(before.keys() | settings.keys()):
                if before.get(name) != settings.get(name):
                    raise InputError(
                        f"{self.path} holds results with {name} {before.get(name)!r}, not "
                        f"{settings.get(name)!r}; choose another folder"
                    )
            return
        self.write_json(path, dict(settings))

    def results(self, method: str) -> Path:
        return self.path / "results" / method

    def read_measured(self, method: str, item: str) -> Measured:
        path = self._measured(method, item)
        try:
            return Measured(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Measured()
        except (json.JSONDecodeError, TypeError):  # Of another version; it is measured again.
            return Measured()

    def write_measured(self, method: str, item: str, measured: Measured) -> None:
        self.write_json(self._measured(method, item), measured.__dict__)

    def _measured(self, method: str, item: str) -> Path:
        return self.path / "measured" / _unique(method) / f"{_unique(item)}.json"

    def write_json(self, path: Path, value: object) -> None:
        """RunError where the disk is full or fails."""
        self.write_text(path, json.dumps(value, indent=1, ensure_ascii=False))

    def write_text(self, path: Path, text: str) -> None:
        """Whole or not at all, whoever else writes it. RunError where the disk is full or fails."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        with renamed(part, path):
            part.write_text(text, encoding="utf-8", newline="")

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Whether this process has the work of this name to itself within."""
        path = self.path / "claims" / _unique(name)
        with path.open("a+", encoding="utf-8") as file:
            try:
                taken = take_lock(file)
            except OSError:  # A network disk without locks.
                taken = True
            yield taken


def _unique(name: str) -> str:
    """A file's name that no other text has."""
    return f"{file_name(name)[:60]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
