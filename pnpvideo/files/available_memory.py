"""How much memory is available to us."""

import os
from pathlib import Path

_UNKNOWN = 4 * 2**30
_CONTAINER = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Bytes that we can take before the system swaps or the container's limit is met.

    Where the system does not say, half of its memory; where it says nothing, 4 GiB.
    """
    return int(min(_of_system(), _of_container()))


def _of_system() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # Linux alone has it.
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN


def _of_container() -> int | float:
    """What the limit of a container (cgroup version 2) leaves; without one, no limit."""
    try:
        limit = int((_CONTAINER / "memory.max").read_text())
        used = int((_CONTAINER / "memory.current").read_text())
        # Cached files are given back when others need the room.
        for line in (_CONTAINER / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):
                used -= int(line.split()[1])
    except (OSError, ValueError):
        return float("inf")
    return max(limit - used, 0)
