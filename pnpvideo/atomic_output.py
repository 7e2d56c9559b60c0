"""Outputs that appear whole or not at all: written under another name, renamed at the end."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from pnpvideo.errors import InputError, RunError

# What a folder may hold to be replaced: frames, and the settings written beside them.
_REPLACEABLE = (".png", ".jpg", ".jpeg", ".webp", ".yaml", ".yml", ".json")


def check_free(output: Path, *, folder: bool, overwrite: bool) -> None:
    """InputError unless `output`, a file or a folder, can be written. Changes nothing."""
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
    elif output.exists() or output.is_symlink():
        if folder:
            raise InputError(f"{output} is a file; choose another name for the folder")
        if not overwrite:
            raise InputError(f"{output} exists already; choose another name or --overwrite")
    above = folder_above(output)
    if not above.is_dir():
        raise InputError(f"{output} cannot be written: {above} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{output} cannot be written: no permission to write in {above}")


def folder_above(output: Path) -> Path:
    """The folder that an output goes to, or the one in which that will be made."""
    above = output.absolute().parent
    while not above.exists():
        above = above.parent
    return above


@contextlib.contextmanager
def atomic_output(output: Path, *, folder: bool, overwrite: bool) -> Iterator[Path]:
    """Yields a path in the same folder to write to; it takes `output`'s place at the end.

    folder: whether a folder is written (it is made empty); parents are made. On any exception, and
    so on Ctrl-C, nothing is left and what was there before stays. InputError as in `check_free`,
    RunError where the disk is full or fails.
    """
    check_free(output, folder=folder, overwrite=overwrite)
    made = _make_parents(output)
    token = secrets.token_hex(4)
    # The suffix stays: programs tell formats by it.
    part = output.with_name(f".{output.stem}-{token}.part{'' if folder else output.suffix}")
    try:
        with renamed(part, output):
            if folder:
                part.mkdir()
            yield part
            check_free(output, folder=folder, overwrite=overwrite)
    except BaseException:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


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
    old = output.with_name(f"{part.name}.old")
    output.replace(old)
    try:
        part.replace(output)
    except BaseException:
        old.replace(output)
        raise
    shutil.rmtree(old, ignore_errors=True)
