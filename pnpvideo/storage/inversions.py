"""Finished inversions that jobs share, so that each source is inverted once."""

import os
import shutil
from pathlib import Path

from pnpvideo.files.atomic_output import renamed
from pnpvideo.files.file_lock import open_lock
from pnpvideo.files.own_names import make_own_folder
from pnpvideo.storage.job_files import JOURNAL, LOCK, TRAJECTORY


def is_lent(place: Path) -> bool:
    """Return whether a place has an inversion to take."""
    return (place / JOURNAL).is_file()


def lend_inversion(job: Path, place: Path) -> None:
    """Put the finished inversion of a job folder in a place where other jobs can take it."""
    if is_lent(place) or not (job / JOURNAL).is_file():
        return
    make_own_folder(place)
    # The journal last: without it the inversion does not count as finished.
    for name in (TRAJECTORY, JOURNAL):
        _put(job / name, place / name)


def take_inversion(place: Path, job: Path) -> None:
    """Put an inversion from a place into a job folder, if that has none of its own yet."""
    if not is_lent(place) or (job / TRAJECTORY).exists():
        return
    make_own_folder(job)
    open_lock(job / LOCK).close()
    for name in (TRAJECTORY, JOURNAL):
        _put(place / name, job / name)


def _put(source: Path, target: Path) -> None:
    """Link a file under another name; a finished one is never written in place again."""
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    with renamed(part, target):
        try:
            part.hardlink_to(source)
        except OSError:  # The disk has no hard links.
            shutil.copyfile(source, part)
