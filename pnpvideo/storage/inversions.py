"""Inversions that a job folder has finished, lent to others: of one source, one is made."""

import os
import shutil
from pathlib import Path

from pnpvideo.files.atomic_output import renamed
from pnpvideo.storage.job_folder import JOURNAL, LOCK, TRAJECTORY


def is_lent(place: Path) -> bool:
    """Whether an inversion is there to be taken."""
    return (place / JOURNAL).is_file()


def lend_inversion(job: Path, place: Path) -> None:
    """Let others take the finished inversion of a job folder from a place."""
    if is_lent(place) or not (job / JOURNAL).is_file():
        return
    place.mkdir(parents=True, exist_ok=True)
    # The journal last: without it nothing counts as finished.
    for name in (TRAJECTORY, JOURNAL):
        _put(job / name, place / name)


def take_inversion(place: Path, job: Path) -> None:
    """Begin a job folder with an inversion that is lent, if it has none of its own yet."""
    if not is_lent(place) or (job / TRAJECTORY).exists():
        return
    job.mkdir(parents=True, exist_ok=True)
    (job / LOCK).touch()
    for name in (TRAJECTORY, JOURNAL):
        _put(place / name, job / name)


def _put(source: Path, target: Path) -> None:
    """The same file under another name: a finished one is never written in place again."""
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    with renamed(part, target):
        try:
            part.hardlink_to(source)
        except OSError:  # A disk without such links.
            shutil.copyfile(source, part)
