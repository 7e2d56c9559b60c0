"""The memory that is available to this process."""

import os
from pathlib import Path

_UNKNOWN = 4 * 2**30
_CONTAINER = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Return the bytes available before the system swaps or the container's limit is reached.

    If the system does not report it: half of its memory, or 4 GiB if that is unknown, too.
    """
    return int(min(_system_memory(), _container_memory()))


def _system_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # Only Linux has it.
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN


def _container_memory() -> int | float:
    """Return the bytes left by a container's limit (cgroup version 2); infinite without one."""
    try:
        limit = int((_CONTAINER / "memory.max").read_text())
        used = int((_CONTAINER / "memory.current").read_text())
        # Cached files are dropped when memory is needed.
        for line in (_CONTAINER / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):
                used -= int(line.split()[1])
    except (OSError, ValueError):
        return float("inf")
    return max(limit - used, 0)
