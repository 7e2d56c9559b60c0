"""Runs of the command line in processes that are killed, forked from one that has imported all, and
processes at work that can be.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# Importing torch and diffusers takes seconds; a process that is forked after it takes none.
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["pnpvideo.cli"])


def run_killed(
    *arguments: str, cwd: Path, after: int, command: str = "translate"
) -> tuple[int, str]:
    """`pnpvideo COMMAND` in a process that gets SIGKILL after so many file operations.

    They are those that make a state count: writing through to the disk, and renaming. Returns the
    exit code, -9 where it was killed, and what it wrote to stderr.
    """
    process = _forks.Process(target=_run, args=((command, *arguments), cwd, after))
    process.start()
    process.join(300)
    assert process.exitcode is not None
    return process.exitcode, (cwd.parent / "stderr").read_text()


def _run(arguments: tuple[str, ...], cwd: Path, after: int) -> None:
    from pnpvideo.cli import main

    os.chdir(cwd)
    sys.stderr = (cwd.parent / "stderr").open("w", buffering=1)
    torch.set_num_threads(1)
    left = after

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*given)

        return call

    os.fsync = counted(os.fsync)
    Path.replace = counted(Path.replace)  # type: ignore[method-assign]
    sys.exit(main(arguments))


def processes_of(jobs: Path) -> list[int]:
    """Those that have job folders in a folder now."""
    with contextlib.suppress(FileNotFoundError):
        texts = [path.read_text().strip() for path in jobs.glob("*/lock")]
        return [int(text) for text in texts if text]
    return []
