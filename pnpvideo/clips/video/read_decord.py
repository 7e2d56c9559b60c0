"""Frames of plain clips through decord, which is let go of on its first failure or silence."""

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

# Of others, it cannot read some, and says so on the terminal.
_CONTAINERS = ("mov,", "matroska,")

# Seconds for one batch, which takes a fraction of one. Nobody waits longer for it.
_PATIENCE = 20.0

T = TypeVar("T")


def is_plain(facts: VideoFacts, shown: ShownFrames) -> bool:
    """Whether decord is there and known to give FFmpeg's frames of such a video."""
    size = facts.width % 2 == 0 and facts.height % 2 == 0
    size = size and facts.width * facts.height <= _MOST_PIXELS
    whole = not facts.upright and facts.square and not shown.interlaced
    # A damaged file may hang decord or make it repeat frames; it takes BT.601 for granted.
    told = facts.pixel_format in _FORMATS and facts.matrix != "bt709" and not facts.high_range
    known = facts.container.startswith(_CONTAINERS) and shown.damage is None
    return decord is not None and size and whole and told and known


class DecordFrames:
    """Chosen frames of a plain video. Any exception means that decord is of no use for it."""

    def __init__(self, path: Path, chosen: range, times: Sequence[Fraction]) -> None:
        """times: seconds at which the chosen frames are shown."""
        self._path, self._chosen, self._times = path, chosen, times
        self._reader: _Reader | None = None

    def read(self, start: int, stop: int) -> Frames:
        """Frames start to stop - 1 of the chosen ones."""
        # What it cannot open it tells the terminal; of frames it is silent.
        quiet = silenced() if self._reader is None else contextlib.nullcontext()
        with quiet:
            return within(_PATIENCE, lambda: self._read(start, stop))

    def _read(self, start: int, stop: int) -> Frames:
        if self._reader is None:
            decord.logging.set_level(decord.logging.QUIET)
            reader: _Reader = decord.VideoReader(str(self._path), ctx=decord.cpu(0), num_threads=1)
            _same_times(reader, self._chosen, self._times)
            self._reader = reader
        return np.ascontiguousarray(self._reader.get_batch(self._chosen[start:stop]).asnumpy())


class _Array(Protocol):
    def asnumpy(self) -> Frames: ...


class _Reader(Protocol):
    """What is used of `decord.VideoReader`, which has no types."""

    def __len__(self) -> int: ...
    def get_batch(self, indices: Sequence[int]) -> _Array: ...
    def get_frame_timestamp(self, idx: list[int]) -> NDArray[np.floating]: ...


def _same_times(reader: _Reader, chosen: range, times: Sequence[Fraction]) -> None:
    """ValueError unless decord counts the frames as FFmpeg shows them (edit lists: it does not)."""
    if len(reader) <= chosen[-1]:
        raise ValueError("decord finds fewer frames")
    theirs = reader.get_frame_timestamp(list(chosen))[:, 0]
    ours = np.array([float(time) for time in times])
    closest = float(np.diff(ours).min()) if len(ours) > 1 else 0.02
    if np.abs(theirs - ours).max() > max(closest / 4, 1e-4):
        raise ValueError("decord finds other times")


def within(seconds: float, call: Callable[[], T]) -> T:
    """What a call gives or raises; TimeoutError where it takes longer.

    It then goes on in a thread that nothing waits for, the end of the program neither.
    """
    answer: queue.SimpleQueue[T | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            answer.put(call())
        except Exception as error:
            answer.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        given = answer.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer in {seconds} s") from None
    if isinstance(given, Exception):
        raise given
    return given
