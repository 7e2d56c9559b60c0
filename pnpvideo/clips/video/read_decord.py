"""Reading of plain clips with decord, in a process of its own that is given up at its first error.

decord's FFmpeg is of 2019: a damaged or crafted file can crash or hang it.
"""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np

from pnpvideo.clips.clip import Frames
from pnpvideo.clips.video.list_frames import ShownFrames
from pnpvideo.clips.video.probe_video import VideoFacts

# decord keeps most frames it has decoded until its reader is deleted: 5.9 MB a frame at 3840x2160
# (7.0 GB after 960 of 1200 frames), 1.3 MB a frame at 1920x1080 (1.5 GB after 1160); up to
# 1280x720 it levels off (250 MB at 400 of 3000 frames, the same at the end). Measured with decord
# 0.6.0, one thread, batches of 8.
_MOST_PIXELS = 1280 * 720

# With these and even sizes, decord's RGB is bit for bit FFmpeg's. With 10 bits or odd sizes it is
# not (single pixels differ by up to 180 of 255 at coloured edges).
_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray")

# It cannot read some other containers, and prints errors to the terminal.
_CONTAINERS = ("mov,", "matroska,")
# How such files begin: Matroska's first bytes, or the name of MP4's first atom. decord's FFmpeg
# would read a file that begins in another way as a playlist, for example.
_MATROSKA = b"\x1a\x45\xdf\xa3"
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")

# Time-out for one answer in seconds; a batch normally takes a fraction of a second.
_TIME_OUT_SECONDS = 20.0

_SCRIPT = Path(__file__).with_name("decord_process.py")


class DecordError(Exception):
    """The reason why decord does not read a file, or a part of it."""


class DecordEndedError(DecordError):
    """The reason why decord's process has ended: it crashed, or was stopped because it hung."""


def has_decord() -> bool:
    """Return whether decord is installed, and a process for it can be started."""
    frozen = getattr(sys, "frozen", False)  # Then `sys.executable` is not Python.
    return importlib.util.find_spec("decord") is not None and bool(sys.executable) and not frozen


def is_plain(facts: VideoFacts, shown: ShownFrames) -> bool:
    """Return whether decord is known to return FFmpeg's frames for this video."""
    size = facts.width % 2 == 0 and facts.height % 2 == 0
    size = size and facts.width * facts.height <= _MOST_PIXELS
    # Of several streams, it may choose another one.
    unfiltered = not facts.upright and facts.square and not shown.interlaced
    unfiltered = unfiltered and facts.stream_count == 1
    # decord assumes BT.601.
    colours = facts.pixel_format in _FORMATS and facts.matrix != "bt709" and not facts.high_range
    # A damaged file may hang decord or make it repeat frames.
    readable = facts.container.startswith(_CONTAINERS) and shown.damage is None
    return size and unfiltered and colours and readable


class DecordFrames:
    """The chosen frames of a plain video. After a DecordError decord cannot be used for it."""

    def __init__(
        self, path: Path, chosen: range, times: Sequence[Fraction], size: tuple[int, int]
    ) -> None:
        """Take `times`: the seconds at which the chosen frames are shown. size: width, height."""
        self._path, self._chosen, self._times, self._size = path, chosen, times, size
        self._process: _Process | None = None

    def read(self, start: int, stop: int) -> Frames:
        """Read the chosen frames start to stop - 1. Raise DecordError if it fails."""
        width, height = self._size
        frames = np.empty((stop - start, height, width, 3), np.uint8)
        if self._process is None:
            self._open()
        assert self._process is not None
        part = self._chosen[start:stop]
        self._process.ask({"do": "read", "frames": [part.start, part.stop, part.step]}, frames)
        if stop == len(self._chosen):
            self.close()
        return frames

    def _open(self) -> None:
        _check_head(self._path)
        self._process = _take_process()
        chosen = [self._chosen.start, self._chosen.stop, self._chosen.step]
        # An absolute path, which FFmpeg does not take for the name of a protocol.
        request = {"do": "open", "path": str(self._path.absolute()), "frames": chosen}
        _check_times(self._process.ask(request)["times"], self._times)

    def close(self) -> None:
        """Leave the process, which can then read another file."""
        process, self._process = self._process, None
        if process is not None:
            _leave_process(process)


class _Process:
    """A process that runs decord. Any error ends it."""

    def __init__(self) -> None:
        # A session of its own: Ctrl-C is for this process, which then ends that one.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._owner = os.getpid()
        self.end = weakref.finalize(self, _end, self._process, self._owner)

    @property
    def is_usable(self) -> bool:
        """Return whether it runs and belongs to this process, not to the one it was forked from."""
        return self._owner == os.getpid() and self._process.poll() is None

    def ask(self, request: Mapping[str, object], frames: Frames | None = None) -> dict[str, object]:
        """Return the answer to a request; fill `frames` if that is what it asks for."""
        if self._owner != os.getpid():
            raise DecordError("its process belongs to another process")
        hung = threading.Event()

        def stop() -> None:
            hung.set()
            self._process.kill()

        timer = threading.Timer(_TIME_OUT_SECONDS, stop)
        timer.daemon = True
        timer.start()
        try:
            return self._exchange(request, frames)
        except BaseException:
            self.end()
            if hung.is_set():
                raise DecordEndedError(f"no answer in {_TIME_OUT_SECONDS:g} s") from None
            raise
        finally:
            timer.cancel()

    def _exchange(self, request: Mapping[str, object], frames: Frames | None) -> dict[str, object]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            answer: dict[str, object] = json.loads(line or "null")
            if not isinstance(answer, dict):
                raise EOFError
            if "error" in answer:
                raise DecordError(str(answer["error"]))
            if frames is not None:
                if answer["shape"] != list(frames.shape):
                    raise DecordError(f"frames of shape {answer['shape']}")
                _fill(frames, self._process.stdout)
        except (OSError, EOFError, ValueError):
            raise DecordEndedError("its process has ended") from None
        return answer


def _fill(frames: Frames, stream: IO[bytes]) -> None:
    left = frames.reshape(-1).data
    while left:
        count = stream.readinto(left)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        left = left[count:]


def _end(process: "subprocess.Popen[bytes]", owner: int) -> None:
    if owner != os.getpid():
        return
    process.kill()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with contextlib.suppress(OSError):
            stream.close()
    process.wait()


_spare: list[_Process] = []
"""A process without a file, as starting one takes 0.3 s: at most one."""
_spare_lock = threading.Lock()


def _take_process() -> _Process:
    with _spare_lock:
        while _spare:
            process = _spare.pop()
            if process.is_usable:
                return process
    try:
        return _Process()
    except OSError as error:
        raise DecordError(f"its process cannot be started: {error.strerror}") from None


def _leave_process(process: _Process) -> None:
    try:
        process.ask({"do": "close"})
    except DecordError:
        return
    with _spare_lock:
        if not _spare:
            _spare.append(process)
            return
    process.end()


def _check_head(path: Path) -> None:
    """Raise DecordError unless a file begins as MP4 or Matroska files do."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise DecordError(error.strerror) from None
    if not head.startswith(_MATROSKA) and head[4:] not in _ATOMS:
        raise DecordError("it does not begin as MP4 or Matroska files do")


def _check_times(found: object, times: Sequence[Fraction]) -> None:
    """Raise DecordError unless decord has FFmpeg's frame times (with edit lists it does not)."""
    expected = np.array([float(time) for time in times])
    decord_times = np.array(found, dtype=np.float64)
    if decord_times.shape != expected.shape:
        raise DecordError("it finds fewer frames")
    closest = float(np.diff(expected).min()) if len(expected) > 1 else 0.02
    if not np.abs(decord_times - expected).max() <= max(closest / 4, 1e-4):
        raise DecordError("it finds other times")
