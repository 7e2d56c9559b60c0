"""Reading of plain clips with decord, which is given up at its first error or time-out."""

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Frames
from pnpvideo.clips.silence import silenced
from pnpvideo.clips.video.list_frames import ShownFrames
from pnpvideo.clips.video.probe_video import VideoFacts

try:
    import decord
except ImportError:  # It has no wheels for some platforms.
    decord = None

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

# Time-out for one batch in seconds; a batch normally takes a fraction of a second.
_TIME_OUT_SECONDS = 20.0

T = TypeVar("T")


def is_plain(facts: VideoFacts, shown: ShownFrames) -> bool:
    """Return whether decord is installed and known to return FFmpeg's frames for this video."""
    size = facts.width % 2 == 0 and facts.height % 2 == 0
    size = size and facts.width * facts.height <= _MOST_PIXELS
    unfiltered = not facts.upright and facts.square and not shown.interlaced
    # decord assumes BT.601.
    colours = facts.pixel_format in _FORMATS and facts.matrix != "bt709" and not facts.high_range
    # A damaged file may hang decord or make it repeat frames.
    readable = facts.container.startswith(_CONTAINERS) and shown.damage is None
    return decord is not None and size and unfiltered and colours and readable


class DecordFrames:
    """The chosen frames of a plain video. Any exception means that decord cannot be used for it."""

    def __init__(self, path: Path, chosen: range, times: Sequence[Fraction]) -> None:
        """Take `times`: the seconds at which the chosen frames are shown."""
        self._path, self._chosen, self._times = path, chosen, times
        self._reader: _Reader | None = None

    def read(self, start: int, stop: int) -> Frames:
        """Read the chosen frames start to stop - 1."""
        # decord prints errors on opening to the terminal, but none for frames.
        quiet = silenced() if self._reader is None else contextlib.nullcontext()
        with quiet:
            return call_with_time_out(_TIME_OUT_SECONDS, lambda: self._read(start, stop))

    def _read(self, start: int, stop: int) -> Frames:
        if self._reader is None:
            decord.logging.set_level(decord.logging.QUIET)
            reader: _Reader = decord.VideoReader(str(self._path), ctx=decord.cpu(0), num_threads=1)
            _check_times(reader, self._chosen, self._times)
            self._reader = reader
        return np.ascontiguousarray(self._reader.get_batch(self._chosen[start:stop]).asnumpy())


class _Array(Protocol):
    def asnumpy(self) -> Frames: ...


class _Reader(Protocol):
    """The used part of `decord.VideoReader`, which has no types."""

    def __len__(self) -> int: ...
    def get_batch(self, indices: Sequence[int]) -> _Array: ...
    def get_frame_timestamp(self, idx: list[int]) -> NDArray[np.floating]: ...


def _check_times(reader: _Reader, chosen: range, times: Sequence[Fraction]) -> None:
    """Raise ValueError unless decord has FFmpeg's frame times (with edit lists it does not)."""
    if len(reader) <= chosen[-1]:
        raise ValueError("decord finds fewer frames")
    decord_times = reader.get_frame_timestamp(list(chosen))[:, 0]
    expected = np.array([float(time) for time in times])
    closest = float(np.diff(expected).min()) if len(expected) > 1 else 0.02
    if np.abs(decord_times - expected).max() > max(closest / 4, 1e-4):
        raise ValueError("decord finds other times")


def call_with_time_out(seconds: float, call: Callable[[], T]) -> T:
    """Return the result of a call, or raise its exception; raise TimeoutError if it takes longer.

    After a time-out, the call goes on in a thread that nothing waits for, not even program exit.
    """
    answer: queue.SimpleQueue[T | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            answer.put(call())
        except Exception as error:
            answer.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        result = answer.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer in {seconds} s") from None
    if isinstance(result, Exception):
        raise result
    return result
