"""One running ffmpeg: started safely, its messages collected, never left behind."""

import re
import signal
import subprocess
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import imageio_ffmpeg

from pnpvideo.errors import RunError


class Ffmpeg:
    """An ffmpeg process with pipes.

    Its stderr is drained by a thread (a full pipe would stop ffmpeg for ever). It runs in a session
    of its own, so that Ctrl-C reaches Python alone, and is killed by `close`, by garbage collection
    and at exit. `stdin` and `stdout` are there where asked for.
    """

    def __init__(
        self, arguments: Sequence[str], *, feed: bool = False, level: str = "error"
    ) -> None:
        """arguments: all that follows `ffmpeg -nostdin`; feed: whether we write to its stdin."""
        try:
            binary = imageio_ffmpeg.get_ffmpeg_exe()
            process = subprocess.Popen(
                [binary, "-hide_banner", "-nostdin", "-loglevel", level, *arguments],
                stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, RuntimeError) as error:
            raise RunError(f"cannot start ffmpeg: {error}; reinstall imageio-ffmpeg") from None
        assert process.stdout is not None
        assert process.stderr is not None
        self.stdin = process.stdin
        self.stdout = process.stdout
        self.messages: deque[str] = deque(maxlen=500)
        self._process = process
        self._drain = threading.Thread(
            target=_collect, args=(process.stderr, self.messages), daemon=True
        )
        self._drain.start()
        self._finalizer = weakref.finalize(self, _end, process)

    def wait(self) -> int:
        """Wait for the end; all pipes closed, all messages collected. Returns the exit code."""
        if self.stdin is not None and not self.stdin.closed:
            self.stdin.close()
        code = self._process.wait()
        self._drain.join()
        return code

    def failure(self) -> str:
        """Why it failed, in one line; for after `wait`."""
        code = self._process.returncode
        if code < 0:
            return f"ffmpeg was ended by {signal.Signals(-code).name}"
        return condense(self.messages)

    def close(self) -> None:
        """Kill it if it still runs. Its messages can still be read."""
        self._finalizer()
        self._drain.join()


def _collect(pipe: IO[bytes], messages: deque[str]) -> None:
    with pipe:
        for line in pipe:
            messages.append(line.decode(errors="replace").rstrip())


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    for pipe in (process.stdin, process.stdout):
        try:
            if pipe is not None:
                pipe.close()
        except OSError:
            pass  # What was still buffered for a killed process has nowhere to go.
    process.wait()


def input_arguments(path: Path) -> list[str]:
    """The arguments that open a file: as a file whatever its name holds, and no playlist in it."""
    return ["-protocol_whitelist", "file,pipe", "-i", f"file:{path}"]


# What comes after the cause and only repeats that something failed.
_ECHOES = re.compile(
    r"(?:conversion failed|error (?:opening|submitting|processing|while|during|muxing|writing)"
    r"|task finished|terminating thread|nothing was written|at least one output|could not open)",
    re.IGNORECASE,
)


def condense(messages: Sequence[str]) -> str:
    """The one line of ffmpeg's messages that says what was wrong."""
    lines = [re.sub(r"^(?:\[[^\]]*\] ?)+", "", line).strip() for line in messages]
    lines = [line for line in lines if line]
    if any("No space left" in line for line in lines):
        return "the disk is full; make room and try again"
    causes = [line for line in lines if not _ECHOES.match(line)] or lines
    return causes[0].rstrip(".")[:200] if causes else "ffmpeg stopped without a message"
