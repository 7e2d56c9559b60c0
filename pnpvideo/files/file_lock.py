"""A lock that one process holds on a file, which the system releases when the process ends."""

import errno
import os
import stat
import sys
from pathlib import Path
from typing import IO

from pnpvideo.files.own_names import in_the_way

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


def open_lock(path: Path) -> IO[str]:
    """Open a file to lock, for reading and writing; create it if it is missing.

    InputError if it is a link: what it leads to would be overwritten.
    """
    flags = os.O_RDWR | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):  # Windows has none of them.
        flags |= getattr(os, name, 0)
    try:
        number = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO) or path.is_symlink():
            raise in_the_way(path) from None
        raise
    status = os.fstat(number)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(number)
        raise in_the_way(path)
    return os.fdopen(number, "r+", encoding="utf-8", errors="replace")


def take_lock(file: IO[str]) -> bool:
    """Lock an open file until it is closed; return False at once if another process has it."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # Linux and macOS; Windows.
        return False
    return True
