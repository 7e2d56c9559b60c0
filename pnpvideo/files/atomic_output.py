"""Atomic outputs: written under another name and renamed at the end."""

import contextlib
import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import IO

from pnpvideo.errors import InputError, RunError
from pnpvideo.files.file_lock import open_lock, take_lock
from pnpvideo.files.file_names import longest_name, name_size
from pnpvideo.files.own_names import make_own_folder, remove

# A folder is replaced only if all its files have these suffixes: frames, and their settings.
_REPLACEABLE = (".png", ".jpg", ".jpeg", ".webp", ".yaml", ".yml", ".json")

_LOCK, _OLD = "lock", "old"
_claims: ContextVar[frozenset[Path]] = ContextVar("claims", default=frozenset())


def check_free(output: Path, *, folder: bool, overwrite: bool) -> None:
    """Raise InputError unless `output`, a file or a folder, can be written. Changes nothing.

    Links are followed.
    """
    above = folder_above(output)
    _check_names(output, above)
    if output.is_dir() and not folder:
        raise InputError(f"{output} is a folder; give a file in it")
    if output.is_dir():
        contents = list(output.iterdir())
        if contents and not overwrite:
            raise InputError(
                f"{output} exists and is not empty; choose another folder or give --overwrite"
            )
        for path in contents:
            check_replaceable(output, path.name, is_folder=path.is_dir())
    elif output.exists():
        if folder:
            raise InputError(f"{output} is a file; choose another name for the folder")
        if not overwrite:
            raise InputError(f"{output} exists already; choose another name or give --overwrite")
    elif _target(output).is_symlink():
        raise InputError(f"{output} is a broken link; choose another name")
    if not above.is_dir():
        raise InputError(f"{output} cannot be written: {above} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{output} cannot be written: no permission to write in {above}")


def check_replaceable(output: object, name: str, *, is_folder: bool) -> None:
    """Raise InputError if an entry of a folder must not be deleted when the folder is replaced.

    A mistyped folder name must not delete anything but frames. name: of the entry.
    """
    if is_folder or Path(name).suffix.lower() not in _REPLACEABLE:
        raise InputError(
            f"{output} holds {name}, which is not a frame, so it is not replaced; choose another "
            "folder"
        )


def folder_above(output: Path) -> Path:
    """Return the closest existing folder above an output."""
    target = _target(output).absolute()
    above = (path for path in target.parents if os.path.exists(path))  # noqa: PTH110 -- see _target
    return next(above, target)  # A root has none.


@contextlib.contextmanager
def claimed(output: Path) -> Iterator[Path]:
    """Keep a folder beside `output` to write in for this run only, and yield it.

    Files left by a killed run are cleared first. Missing parent folders are created, and removed
    on any exception. A claim can be nested in itself. Raise InputError if another run has the
    claim, RunError if the system refuses to write.
    """
    target = _target(output)
    # Short enough for any name, and the same for all runs to this output.
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:8]
    folder = target.with_name(f".{target.stem[:20]}-{digest}.part")
    if folder in _claims.get():
        yield folder
        return
    created_parents = _make_parents(target)
    try:
        with _locked(folder, output):
            old = folder / _OLD
            is_left = old.is_dir() and not old.is_symlink()
            if is_left and not target.exists():  # A run was killed while swapping.
                old.replace(target)
            _clear(folder)
            token = _claims.set(_claims.get() | {folder})
            try:
                yield folder
            finally:
                _claims.reset(token)
    except BaseException:
        for parent in created_parents:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


@contextlib.contextmanager
def atomic_output(output: Path, *, folder: bool, overwrite: bool) -> Iterator[Path]:
    """Open a path to write to, which replaces `output` at the end.

    folder: whether to write a folder (it is created empty). Parent folders are created. A link
    stays, and its target is replaced. On any exception, including Ctrl-C, nothing is left and an
    existing output is untouched. Raise InputError as `check_free` and `claimed` do, RunError if
    the disk is full or fails.
    """
    check_free(output, folder=folder, overwrite=overwrite)
    with claimed(output) as claim:
        # Keep the suffix, by which writers choose the format.
        part = claim / f"result{'' if folder else output.suffix}"
        with renamed(part, _target(output)):
            if folder:
                part.mkdir()
            yield part
            check_free(output, folder=folder, overwrite=overwrite)


@contextlib.contextmanager
def renamed(part: Path, output: Path, *, settled: bool = False) -> Iterator[None]:
    """Rename `part`, which the block writes, to `output` at the end; remove it on any exception.

    What is at `part` is removed first; a link there is not followed.
    settled: whether to sync it to the disk first, so that it is whole even if the machine stops.
    Raise RunError if the disk is full or fails.
    """
    try:
        remove(part)
        yield
        if settled:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        if output.is_dir():
            _swap(part, output)
        else:
            part.replace(output)
    except BaseException as error:
        with contextlib.suppress(OSError):
            remove(part)
        if isinstance(error, OSError):
            raise write_error(output, error) from None
        raise


def write_error(output: Path, error: OSError) -> RunError:
    """Return the error to raise if the system refuses to write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(f"{output} cannot be written: the disk is full; make room and try again")
    return RunError(f"{output} cannot be written: {error.strerror or error}")


def _target(output: Path) -> Path:
    """Return the target of a link, or the path itself if it is not a link."""
    # Unlike os.path, pathlib raises an error if a name is too long for the disk.
    return Path(os.path.realpath(output)) if os.path.islink(output) else output  # noqa: PTH114


def _check_names(output: Path, above: Path) -> None:
    """Raise InputError if a name is longer than the disk allows."""
    limit = longest_name(above)
    for name in _target(output).absolute().parts:
        if (length := name_size(name)) > limit:
            raise InputError(
                f"{name[:20]}...{output.suffix[:10]} is a name of {length} bytes, and this "
                f"disk allows {limit}; choose a shorter name"
            )


@contextlib.contextmanager
def _locked(folder: Path, output: Path) -> Iterator[None]:
    """Keep a folder with a lock in it, and remove it at the end."""
    lock = _make_locked_folder(folder, output)
    try:
        yield
    finally:
        if sys.platform == "win32":  # Windows cannot remove open files.
            lock.close()
        with contextlib.suppress(OSError):
            _clear(folder)
            (folder / _LOCK).unlink()
            folder.rmdir()
        lock.close()


def _make_locked_folder(folder: Path, output: Path) -> IO[str]:
    """Create the folder and take the lock in it."""
    path = folder / _LOCK
    for _ in range(100):
        try:
            make_own_folder(folder)
            lock = open_lock(path)
        except (FileExistsError, FileNotFoundError) as error:
            refused = error
            continue  # Another run has just ended and removed its folder.
        except OSError as error:
            raise write_error(output, error) from None
        try:
            is_locked = take_lock(lock)
        except OSError:  # A network disk that does not support locks.
            return lock
        if not is_locked:
            lock.close()
            break
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), path.lstat()):
                return lock
        lock.close()
    else:
        if isinstance(refused, FileNotFoundError):
            raise write_error(output, refused)
    raise InputError(
        f"{output} is being written by another run; wait for it, or choose another name"
    )


def _clear(folder: Path) -> None:
    """Remove everything in a folder except its lock."""
    for path in folder.iterdir():
        if path.name != _LOCK:
            remove(path)


def _make_parents(output: Path) -> list[Path]:
    """Create missing parent folders; return those created, innermost first."""
    missing = [parent for parent in output.absolute().parents if not parent.exists()]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(output, error) from None
    return missing


def _swap(part: Path, output: Path) -> None:
    """Replace the folder `output` by the folder `part`."""
    old = part.with_name(_OLD)
    output.replace(old)
    try:
        part.replace(output)
    except BaseException:
        old.replace(output)
        raise
    shutil.rmtree(old, ignore_errors=True)
