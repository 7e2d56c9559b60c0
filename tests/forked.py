"""Runs of the command line in processes of their own, which are forked from one that has imported
all: importing torch and diffusers takes seconds.
"""

import contextlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["pnpvideo.batch.start", "pnpvideo.cli"])


@dataclass(frozen=True, kw_only=True)
class Forked:
    """A process at work. stdout, stderr: files."""

    process: BaseProcess
    stdout: Path
    stderr: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it works."""
        return self.process.exitcode

    def wait(self, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
        self.process.join(timeout)
        code = self.process.exitcode
        assert code is not None, self.stderr.read_text()
        return subprocess.CompletedProcess(
            (), code, self.stdout.read_text(), self.stderr.read_text()
        )


@dataclass(frozen=True, kw_only=True)
class _How:
    cwd: Path
    streams: tuple[Path, Path, Path]
    terminal: Path | None
    environment: Mapping[str, str]
    largest_file: int
    operations: int


def start(
    *arguments: str,
    cwd: Path,
    terminal: str | None = None,
    stdout: Path | None = None,
    environment: Mapping[str, str] | None = None,
    largest_file: int = resource.RLIM_INFINITY,
    operations: int = -1,
) -> Forked:
    """Start `pnpvideo ARGUMENTS`, as a leader of a session.

    terminal: that the session has, in place of files for stdin, stdout and stderr. stdout: in place
    of either. environment: more than this process's. largest_file: in bytes. operations: those
    after which it gets SIGKILL, which make a state count: writing through to the disk, and
    renaming.
    """
    kept = Path(tempfile.mkdtemp(prefix="forked-"))
    out, err = kept / "stdout", kept / "stderr"
    for path in (out, err):
        path.touch()
    ends = Path(os.devnull), out, err
    if terminal is not None:
        ends = Path(terminal), Path(terminal), Path(terminal)
    how = _How(
        cwd=cwd,
        streams=(ends[0], stdout or ends[1], ends[2]),
        terminal=None if terminal is None else Path(terminal),
        environment=os.environ | dict(environment or {}),
        largest_file=largest_file,
        operations=operations,
    )
    process = _forks.Process(target=_run, args=(arguments, how))
    process.start()
    return Forked(process=process, stdout=out, stderr=err)


def run_killed(
    *arguments: str, cwd: Path, after: int, command: str = "translate"
) -> tuple[int, str]:
    """`pnpvideo COMMAND` in a process that gets SIGKILL after so many file operations (`start`).

    Returns the exit code, -9 where it was killed, and what it wrote to stderr.
    """
    done = start(command, *arguments, cwd=cwd, operations=after).wait()
    return done.returncode, done.stderr


def _run(arguments: tuple[str, ...], how: _How) -> None:
    os.setsid()
    os.chdir(how.cwd)
    for number, path in enumerate(how.streams):
        # The first terminal that the leader of a session opens becomes that session's.
        os.dup2(os.open(path, os.O_RDWR), number)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, 1, closefd=False) for number, mode in enumerate(("r", "w", "w"))
    )
    os.environ.clear()
    os.environ.update(how.environment)
    # What runs the tests, such as nohup, may have let them ignore these.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (how.largest_file, how.largest_file))
    torch.set_num_threads(1)
    if how.operations >= 0:
        _kill_after(how.operations)
    from pnpvideo.__main__ import main

    sys.argv = ["pnpvideo", *arguments]
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(
            OSError
        ):  # A terminal may be closed; multiprocessing flushes, too.
            stream.flush()
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    sys.exit(code)


def _kill_after(left: int) -> None:
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


def processes_of(jobs: Path) -> list[int]:
    """Those that have job folders in a folder now."""
    with contextlib.suppress(FileNotFoundError):
        texts = [path.read_text().strip() for path in jobs.glob("*/lock")]
        return [int(text) for text in texts if text]
    return []
