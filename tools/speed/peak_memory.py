"""The peak memory of a piece of work: of the device, or of the process on a CPU."""

from __future__ import annotations

import resource
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak. Without Linux's /proc, a CPU process's peak is that of its whole life."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif (_PROCESS / "clear_refs").exists():
        (_PROCESS / "clear_refs").write_text("5")  # proc(5): resets the peak of resident memory


def peak_memory(device: torch.device) -> float:
    """Return the peak in GiB since the last reset."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if (_PROCESS / "status").exists():
        lines = (_PROCESS / "status").read_text().splitlines()
        (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
        return int(peak) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
