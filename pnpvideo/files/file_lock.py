"""A lock that one process holds on a file, and that the system gives back when it dies."""

import sys
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


def take_lock(file: IO[str]) -> bool:
    """Lock an open file until it is closed, without waiting; False where another has it."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # Linux and macOS; Windows.
        return False
    return True
