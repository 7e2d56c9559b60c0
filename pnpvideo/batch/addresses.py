"""Fetch and deliver files at addresses that fsspec knows, such as s3://bucket/cat.mp4."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from fsspec.core import url_to_fs

from pnpvideo.errors import InputError, RunError
from pnpvideo.files.atomic_output import renamed
from pnpvideo.files.shared_folder import unique_name
from pnpvideo.storage.fingerprint import of_values


def stamp_at(address: str) -> str:
    """Return what changes when a file, or one in a folder, is changed; '' if there is none.

    InputError if the address cannot be read.
    """
    with _one_line_errors(address, "read"):
        files, path = url_to_fs(address)
        files.invalidate_cache()
        found = files.find(path, detail=True)
        return of_values(*(str(file) for file in sorted(found.items()))) if found else ""


def fetch(address: str, folder: Path) -> Path:
    """Copy a file or a folder into a local folder; return the copy, the same until it changes.

    InputError if it cannot be read.
    """
    stamp = stamp_at(address)
    if not stamp:
        raise InputError(f"{address} does not exist")
    place = folder / unique_name(f"{address} {stamp}")
    with _one_line_errors(address, "read"):
        files, path = url_to_fs(address)
        copy = place / Path(path).name
        if copy.exists():
            return copy
        place.mkdir(parents=True, exist_ok=True)
        part = place / f"{os.getpid()}.part"
        with renamed(part, copy):
            files.get(path, str(part), recursive=files.isdir(path))
            # The folder's name says which version it is; a copy fetched again is the same source.
            for file in (part, *part.rglob("*")):
                os.utime(file, (0, 0))
    return copy


def put(path: Path, address: str, check: Callable[[Path], None]) -> None:
    """Copy a file or a folder to an address, whole or not at all if the storage can rename.

    check: called with a copy that was read back, before anything at the address is replaced.
    RunError if it cannot be written.
    """
    with _one_line_errors(address, "written"):
        files, target = url_to_fs(address)
        part = f"{target}.{os.getpid()}.part"
        try:
            files.makedirs(files._parent(target), exist_ok=True)
            files.put(str(path), part, recursive=path.is_dir())
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                copy = Path(folder) / path.name
                files.get(part, str(copy), recursive=path.is_dir())
                check(copy)
            if files.exists(target):
                files.rm(target, recursive=True)
            files.mv(part, target, recursive=path.is_dir())
        finally:
            with contextlib.suppress(OSError):
                files.rm(part, recursive=True)


def delete_copy(path: Path) -> None:
    """Delete the local copy of a delivered file or folder."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _one_line_errors(address: str, done: str) -> Iterator[None]:
    """Turn every error of fsspec's drivers, which share no class, into an error of one line."""
    try:
        yield
    except (InputError, RunError):
        raise
    except Exception as error:
        kind = RunError if done == "written" else InputError
        reason = str(error) or type(error).__name__
        raise kind(f"{address} cannot be {done}: {reason}") from None
