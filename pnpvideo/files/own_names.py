"""Folders and files under names that we make up. What lies there may be a link that someone else
put there, so none is followed.
"""

import contextlib
import shutil
import stat
from pathlib import Path

from pnpvideo.errors import InputError


def make_own_folder(folder: Path) -> None:
    """Create a folder and those above it, if they are missing.

    InputError if a link or a file is in its place.
    """
    while True:
        try:
            folder.mkdir(parents=True)
            return
        except FileExistsError:
            # Looked at once: another run may remove it between two looks.
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISDIR(folder.lstat().st_mode):
                    raise in_the_way(folder) from None
                return


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if there is one. What a link leads to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_link(path: Path) -> None:
    """Remove a link, and nothing else."""
    if path.is_symlink():
        path.unlink(missing_ok=True)


def in_the_way(path: Path) -> InputError:
    """Return the error for a link, or a file of another kind, under one of our names."""
    return InputError(
        f"{path} is a link or another file where pnpvideo keeps its own; remove it, and try again"
    )
