"""Measurement of whole runs of the command line on clips of several lengths."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pnpvideo.clips.clip import Timing
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import write_clip
from pnpvideo.options.method import DEFAULT_BATCH_SIZE
from tools.make_samples import RISING_ROCKET, drawn


def run_command(command: Sequence[str]) -> tuple[float, float]:
    """Return seconds and peak memory in GiB of a command. Raise RuntimeError if it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, usage.ru_maxrss * unit / 2**30


def copy_clip(source: Path, output: Path) -> float:
    """Return the seconds of reading and writing alone, without a model in between."""
    start = time.perf_counter()
    clip = read_clip(source)
    write_clip(clip.batches(DEFAULT_BATCH_SIZE), output, timing=clip.timing)
    clip.close()
    return time.perf_counter() - start


def measure_files(counts: Sequence[int], options: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each number of frames, after a run of one frame for the start-up time.

    options: further options of `pnpvideo translate`.
    """
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        started = 0.0
        for count in (1, *counts):
            source = folder / f"{count}.mp4"
            write_clip(
                drawn(RISING_ROCKET, "cartoon", count),
                source,
                timing=Timing(frame_rate=Fraction(24)),
            )
            output = folder / f"{count}-result.mp4"
            command = [sys.executable, "-m", "pnpvideo", "translate", str(source), "--quiet"]
            command += [
                "--prompt",
                "a 3D render of a rocket on a purple background",
                "-o",
                str(output),
            ]
            seconds, memory = run_command([*command, *options])
            if count == 1:
                started = seconds
                continue
            each = (seconds - started) / (count - 1)
            files = copy_clip(source, folder / f"{count}-copy.mp4") / count
            rows.append(
                {
                    "frames": count,
                    "seconds": seconds,
                    "seconds of one frame": started,
                    "seconds a further frame": each,
                    "reading and writing alone": files,
                    "share of it": files / each,
                    "peak GiB": memory,
                }
            )
    return rows
