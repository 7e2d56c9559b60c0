"""Fetch and deliver files at addresses that fsspec knows, such as s3://bucket/cat.mp4.

Names are taken as they are: fsspec reads * ? [ in single names as patterns, but not in lists.
"""

import contextlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.callbacks import Callback
from fsspec.core import url_to_fs
from fsspec.implementations.dirfs import DirFileSystem

from pnpvideo.errors import InputError, RunError
from pnpvideo.files.atomic_output import check_replaceable, renamed
from pnpvideo.files.own_names import make_own_folder
from pnpvideo.files.shared_folder import unique_name
from pnpvideo.options.printed import name_at, secrets_of, shown_address, without_secrets
from pnpvideo.storage.fingerprint import of_values

_MOST_BYTES = 64 * 2**30
"""The most that a file or folder at an address may have, unpacked if it is in an archive."""
_KEPT_FREE = 2**30
"""Bytes of the disk that are left to others."""
_PATTERN = re.compile(r"[*?[]")


def stamp_at(address: str) -> str:
    """Return what changes when a file, or one in a folder, is changed; '' if there is none.

    InputError if the address cannot be read.
    """
    with _one_line_errors(address, "read"):
        files, path = url_to_fs(address)
        files.invalidate_cache()
        found = _listed(files, path)
        # Some file systems give no details of a path that is a file.
        known = [(one, details or files.info(one)) for one, details in sorted(found.items())]
        return of_values(*map(str, known)) if found else ""


def fetch(address: str, folder: Path) -> Path:
    """Copy a file or a folder into a local folder; return the copy, the same until it changes.

    InputError if it cannot be read.
    """
    stamp = stamp_at(address)
    if not stamp:
        raise InputError(f"{shown_address(address)} does not exist")
    place = folder / unique_name(shown_address(address), f"{address} {stamp}")
    with _one_line_errors(address, "read"):
        files, path = url_to_fs(address)
        copy = place / name_at(address)
        if copy.exists():
            return copy
        make_own_folder(place)
        part = place / f"{os.getpid()}.part"
        with renamed(part, copy):
            _get(files, path, part, address)
            # The folder's name says which version it is; a copy fetched again is the same source.
            for file in (part, *part.rglob("*")):
                os.utime(file, (0, 0))
    return copy


def put(path: Path, address: str, check: Callable[[Path], None]) -> None:
    """Copy a file or a folder to an address, whole or not at all if the storage can rename.

    check: called with a copy that was read back, before anything at the address is replaced.
    RunError if it cannot be written, InputError if something else would be replaced.
    """
    with _one_line_errors(address, "written"):
        files, target = url_to_fs(address)
        # Nobody can have put a link there.
        part = f"{target}.{secrets.token_hex(4)}.part"
        try:
            _put(files, path, part)
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                copy = Path(folder) / path.name
                _get(files, part, copy, address)
                check(copy)
            check_free_at(address, folder=path.is_dir(), overwrite=True)
            _remove(files, target)
            _move(files, part, target)
        finally:
            with contextlib.suppress(OSError):
                _remove(files, part)


def check_free_at(address: str, *, folder: bool, overwrite: bool) -> None:
    """Raise InputError unless a file or a folder of frames can be written to an address.

    As with local results, a folder is replaced only if it holds nothing but frames.
    """
    with _one_line_errors(address, "read"):
        files, path = url_to_fs(address)
        files.invalidate_cache()
        below = [name for _, name in _found(files, path)]
    if not below:
        return
    shown = shown_address(address)
    if not overwrite:
        raise InputError(f"{shown} exists already; choose another name or give --overwrite")
    if folder == (below == [""]):
        kind, other = ("file", "folder") if folder else ("folder", "file")
        raise InputError(f"{shown} is a {kind}; choose another name for the {other}")
    for name in below if folder else ():
        check_replaceable(shown, name, is_folder="/" in name)


def _listed(files: AbstractFileSystem, path: str) -> dict[str, Any]:
    """Return what the storage says of a file, or of all files in a folder, by their paths."""
    try:
        details = files.info(path)
    except FileNotFoundError:
        details = {}
    # To list a file, fsspec's driver for HTTP would read all of it as a page of links.
    if details.get("type") == "file" and details.get("mimetype") != "text/html":
        return {path: details}
    found: dict[str, Any] = files.find(path, detail=True)
    return found


def _found(files: AbstractFileSystem, path: str) -> list[tuple[str, str]]:
    """Return each file at a path with its name below it; '' for the path itself."""
    found = [(one, PurePosixPath(one).relative_to(path).as_posix()) for one in files.find(path)]
    if any(".." in PurePosixPath(name).parts for _, name in found):
        raise InputError(f"{path} holds names that lead out of it")
    return [(one, "" if name == "." else name) for one, name in found]


class _Bounded(Callback):
    """A count of the bytes that are copied. InputError beyond the limit.

    A server may send more than it says, and an archive may hold more than it lists.
    """

    def __init__(self, address: str, folder: Path) -> None:
        super().__init__()
        self._shown = shown_address(address)
        self._free = max(0, shutil.disk_usage(folder).free - _KEPT_FREE)
        self._copied = 0

    def check(self, count: int) -> None:
        """Raise InputError if there are too many bytes."""
        if count > _MOST_BYTES:
            raise InputError(
                f"{self._shown} has more than {_MOST_BYTES} bytes, which is the limit at an "
                "address; download it, and give the file"
            )
        if count > self._free:
            raise InputError(
                f"{self._shown} has {count} bytes, and the disk has only {self._free} free"
            )

    def relative_update(self, inc: int = 1) -> None:
        self._copied += inc
        self.check(self._copied)

    def branched(self, path_1: str, path_2: str, **_: object) -> "_OneFile":
        return _OneFile(self)


class _OneFile(Callback):
    """The part of a `_Bounded` for one of several files."""

    def __init__(self, whole: _Bounded) -> None:
        super().__init__()
        self._whole, self._copied = whole, 0

    def relative_update(self, inc: int = 1) -> None:
        self._copied += inc
        self._whole.relative_update(inc)

    def absolute_update(self, value: int) -> None:
        self.relative_update(value - self._copied)


def _get(files: AbstractFileSystem, path: str, target: Path, address: str) -> None:
    bounded = _Bounded(address, target.parent)
    listed = _listed(files, path)
    bounded.check(sum((details or {}).get("size") or 0 for details in listed.values()))
    if path in listed:
        files.get([path], [str(target)], callback=bounded)
        return
    found = _found(files, path)
    places = [target / name for _, name in found]
    for place in {target, *(place.parent for place in places)}:
        place.mkdir(parents=True, exist_ok=True)
    files.get([one for one, _ in found], [str(place) for place in places], callback=bounded)


def _put(files: AbstractFileSystem, path: Path, target: str) -> None:
    inner = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else []
    names = [f"{target}/{one.relative_to(path).as_posix()}" for one in inner] or [target]
    for folder in sorted({files._parent(name) for name in names}):
        files.makedirs(folder, exist_ok=True)
    files.put([str(one) for one in inner or [path]], names)


def _move(files: AbstractFileSystem, path: str, target: str) -> None:
    own = type(files).mv
    if own is not AbstractFileSystem.mv and not isinstance(files, DirFileSystem):
        files.mv(path, target)  # The storage renames, and takes names as they are.
        return
    found = _found(files, path)
    names = [f"{target}/{name}" if name else target for _, name in found]
    for folder in sorted({files._parent(name) for name in names}):
        files.makedirs(folder, exist_ok=True)
    files.copy([one for one, _ in found], names)
    _remove(files, path)


def _remove(files: AbstractFileSystem, path: str) -> None:
    """Remove the files at a path, and then its folders, if the storage has any."""
    found = _found(files, path)
    _remove_files(files, [one for one, _ in found])
    inner = {path} if any(name for _, name in found) else set()
    for _, name in found:
        inner |= {f"{path}/{folder}" for folder in map(str, PurePosixPath(name).parents) if name}
    for folder in sorted(inner, reverse=True):
        with contextlib.suppress(Exception):  # Stores without folders say so in many ways.
            if files.exists(folder):
                files.rmdir(folder)


def _remove_files(files: AbstractFileSystem, paths: Sequence[str]) -> None:
    plain = [path for path in paths if not _PATTERN.search(path)]
    if plain and files.async_impl:
        files.rm(plain)  # All at once.
    else:
        for path in plain:
            files.rm(path)
    for path in paths:
        if _PATTERN.search(path):
            files.rm_file(path)


@contextlib.contextmanager
def _one_line_errors(address: str, done: str) -> Iterator[None]:
    """Turn every error of fsspec's drivers, which share no class, into an error of one line."""
    try:
        yield
    except (InputError, RunError):
        raise
    except Exception as error:
        kind = RunError if done == "written" else InputError
        reason = without_secrets(str(error) or type(error).__name__)
        for secret in sorted(secrets_of(address), key=len, reverse=True):
            reason = reason.replace(secret, "***")
        raise kind(f"{shown_address(address)} cannot be {done}: {reason}") from None
