"""Files at addresses that fsspec knows, such as s3://bucket/cat.mp4: copied here, or put there."""

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
    """What changes when a file, or one in a folder, is changed; '' where there is none.

    InputError where that cannot be known.
    """
    with _told(address, "read"):
        files, path = url_to_fs(address)
        files.invalidate_cache()
        found = files.find(path, detail=True)
        return of_values(*(str(one) for one in sorted(found.items()))) if found else ""


def fetch(address: str, folder: Path) -> Path:
    """A copy of a file or a folder, in a folder here; the same one again until it is changed there.

    InputError where it cannot be had.
    """
    stamp = stamp_at(address)
    if not stamp:
        raise InputError(f"{address} does not exist")
    place = folder / unique_name(f"{address} {stamp}")
    with _told(address, "read"):
        files, path = url_to_fs(address)
        copy = place / Path(path).name
        if copy.exists():
            return copy
        place.mkdir(parents=True, exist_ok=True)
        part = place / f"{os.getpid()}.part"
        with renamed(part, copy):
            files.get(path, str(part), recursive=files.isdir(path))
            # Its name says which one it is, so that one that is fetched anew is the same source.
            for one in (part, *part.rglob("*")):
                os.utime(one, (0, 0))
    return copy


def put(path: Path, address: str, check: Callable[[Path], None]) -> None:
    """Bring a file or a folder to an address, whole or not at all, as far as it knows moves.

    check: is called with a copy that was read back, before anything there is replaced.
    RunError where it cannot be written.
    """
    with _told(address, "written"):
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


def forget(path: Path) -> None:
    """What is elsewhere now."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _told(address: str, done: str) -> Iterator[None]:
    """One line for whatever a driver of fsspec raises, which has no error of its own."""
    try:
        yield
    except (InputError, RunError):
        raise
    except Exception as error:
        kind = RunError if done == "written" else InputError
        reason = str(error) or type(error).__name__
        raise kind(f"{address} cannot be {done}: {reason}") from None
