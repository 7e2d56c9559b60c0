"""Outputs that appear whole or not at all: written under another name, renamed at the end."""

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
from pnpvideo.files.file_lock import take_lock

# What a folder may hold to be replaced: frames, and the settings written beside them.
_REPLACEABLE = (".png", ".jpg", ".jpeg", ".webp", ".yaml", ".yml", ".json")

_LOCK, _OLD = "lock", "old"
_claims: ContextVar[frozenset[Path]] = ContextVar("claims", default=frozenset())


def check_free(output: Path, *, folder: bool, overwrite: bool) -> None:
    """InputError unless `output`, a file or a folder, can be written. Changes nothing.

    A link counts as what it leads to.
    """
    above = folder_above(output)
    _check_names(output, above)
    if output.is_dir() and not folder:
        raise InputError(f"{output} is a folder; name a file in it")
    if output.is_dir():
        inside = list(output.iterdir())
        if inside and not overwrite:
            raise InputError(f"{output} exists and is not empty; choose another or --overwrite")
        for path in inside:
            # A mistyped folder must not cost anything but frames.
            if path.is_dir() or path.suffix.lower() not in _REPLACEABLE:
                raise InputError(
                    f"{output} holds {path.name}, which is no frame, and is not replaced; "
                    "choose another folder"
                )
    elif output.exists():
        if folder:
            raise InputError(f"{output} is a file; choose another name for the folder")
        if not overwrite:
            raise InputError(f"{output} exists already; choose another name or --overwrite")
    elif _target(output).is_symlink():
        raise InputError(f"{output} is a link that leads nowhere; choose another name")
    if not above.is_dir():
        raise InputError(f"{output} cannot be written: {above} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{output} cannot be written: no permission to write in {above}")


def folder_above(output: Path) -> Path:
    """The folder that an output goes to, or the one in which that will be made."""
    parents = _target(output).absolute().parents
    return next(above for above in parents if os.path.exists(above))  # noqa: PTH110 -- see _target


@contextlib.contextmanager
def claimed(output: Path) -> Iterator[Path]:
    """Yields a folder beside `output` to write in, which is this run's until the end.

    What a run that was killed left there is cleared first; the folders above are made, and go again
    on any exception. Within a claim, the same one can be had again. InputError where another run
    has it, RunError where the system refuses to write.
    """
    target = _target(output)
    # Short enough for any name, and the same for all runs to this output.
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:8]
    folder = target.with_name(f".{target.stem[:20]}-{digest}.part")
    if folder in _claims.get():
        yield folder
        return
    made = _make_parents(target)
    try:
        with _locked(folder, output):
            if (folder / _OLD).exists() and not target.exists():  # It died while swapping.
                (folder / _OLD).replace(target)
            _clear(folder)
            before = _claims.set(_claims.get() | {folder})
            try:
                yield folder
            finally:
                _claims.reset(before)
    except BaseException:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


@contextlib.contextmanager
def atomic_output(output: Path, *, folder: bool, overwrite: bool) -> Iterator[Path]:
    """Yields a path to write to; what is written takes `output`'s place at the end.

    folder: whether a folder is written (it is made empty); parents are made. Links stay, and what
    they lead to is replaced. On any exception, and so on Ctrl-C, nothing is left and what was there
    before stays. InputError as in `check_free` and `claimed`, RunError where the disk is full or
    fails.
    """
    check_free(output, folder=folder, overwrite=overwrite)
    with claimed(output) as here:
        # The suffix stays: programs tell formats by it.
        part = here / f"result{'' if folder else output.suffix}"
        with renamed(part, _target(output)):
            if folder:
                part.mkdir()
            yield part
            check_free(output, folder=folder, overwrite=overwrite)


@contextlib.contextmanager
def renamed(part: Path, output: Path, *, settled: bool = False) -> Iterator[None]:
    """For writing `part`: it takes `output`'s place at the end, and is gone on any exception.

    settled: only when it is on the disk, so that it is whole even if the machine stops. RunError
    where the disk is full or fails.
    """
    try:
        yield
        if settled:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        if output.is_dir():
            _swap(part, output)
        else:
            part.replace(output)
    except BaseException as error:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_error(output, error) from None
        raise


def write_error(output: Path, error: OSError) -> RunError:
    """What to tell when the system refuses to write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(f"{output} cannot be written: the disk is full; make room and try again")
    return RunError(f"{output} cannot be written: {error.strerror or error}")


def _target(output: Path) -> Path:
    """What a link leads to; a path that is none as it is."""
    # Unlike os.path's, pathlib's questions are errors where a name is too long for the disk.
    return Path(os.path.realpath(output)) if os.path.islink(output) else output  # noqa: PTH114


def _check_names(output: Path, above: Path) -> None:
    """InputError where a name is longer than the disk allows."""
    limit = os.pathconf(above, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    for name in _target(output).absolute().parts:
        if (length := len(os.fsencode(name))) > limit:
            raise InputError(
                f"{name[:20]}...{output.suffix[:10]} is a name of {length} bytes; this disk takes "
                f"{limit}, so choose a shorter one"
            )


@contextlib.contextmanager
def _locked(folder: Path, output: Path) -> Iterator[None]:
    """Make a folder and hold the lock in it; at the end the folder goes."""
    lock = _lock(folder, output)
    try:
        yield
    finally:
        if sys.platform == "win32":  # It removes no open file.
            lock.close()
        with contextlib.suppress(OSError):
            _clear(folder)
            (folder / _LOCK).unlink()
            folder.rmdir()
        lock.close()


def _lock(folder: Path, output: Path) -> IO[str]:
    """Make the folder and take the lock in it."""
    path = folder / _LOCK
    for _ in range(100):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = path.open("a+", encoding="utf-8")
        except (FileExistsError, FileNotFoundError):
            continue  # Another run has just ended, and its folder gone.
        except OSError as error:
            raise write_error(output, error) from None
        try:
            taken = take_lock(lock)
        except OSError:  # A network disk without locks.
            return lock
        if not taken:
            lock.close()
            break
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                return lock
        lock.close()
    raise InputError(
        f"{output} is being written by another run; wait for it, or choose another name"
    )


def _clear(folder: Path) -> None:
    """Remove what a folder holds beside its lock."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != _LOCK:
            path.unlink(missing_ok=True)


def _make_parents(output: Path) -> list[Path]:
    """Make the folders above; returns those made, innermost first."""
    missing = [parent for parent in output.absolute().parents if not parent.exists()]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(output, error) from None
    return missing


def _swap(part: Path, output: Path) -> None:
    """Put the folder `part` in the place of the folder `output`."""
    old = part.with_name(_OLD)
    output.replace(old)
    try:
        part.replace(output)
    except BaseException:
        old.replace(output)
        raise
    shutil.rmtree(old, ignore_errors=True)
