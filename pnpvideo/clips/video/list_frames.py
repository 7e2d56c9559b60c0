"""List every frame that a video file shows, with its time, up to its end or the first damage."""

import contextlib
import stat
import threading
from collections import OrderedDict
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from av.video.frame import VideoFrame

from pnpvideo.clips.video.open_video import DamageError, OpenVideo, captured_messages
from pnpvideo.clips.video.probe_video import VideoFacts

LONGEST_GAP = 10
"""Seconds. In a transport stream a longer gap means that another clock begins, as in ffmpeg."""

_REMEMBERED = 16
"""Files whose frames are remembered, of some bytes for each frame."""


@dataclass(frozen=True, kw_only=True)
class ShownFrames:
    """The frames that FFmpeg shows, in the order in which it shows them.

    times: presentation times in units of time_base (seconds).
    end: time at which the last frame ends, in the same units.
    joins: see `Sound`; in the same units.
    interlaced: whether any of the frames is.
    damage: why the frames after the last one cannot be read; None if they all can.
    """

    times: tuple[int, ...]
    end: int
    time_base: Fraction
    joins: tuple[int, ...]
    interlaced: bool
    damage: str | None


def list_frames(path: Path, facts: VideoFacts, stop: int | None = None) -> ShownFrames:
    """List the first `stop` frames that FFmpeg shows (None: all) by decoding them once.

    Decoding is the only way to know: edit lists, hidden frames and missing time stamps make the
    number and the times of the packets differ from those of the frames. It also finds damage before
    any expensive work; without converting or copying pixels it is many times faster than what
    follows. What a codec without checksums decodes without complaint looks like an intact frame.
    A file that has not changed since it was last listed is not decoded again.
    """
    version = _version(path)
    shown = _memory.find(version, facts, stop)
    if shown is None:
        listing = _Listing(path, "FRAME", stop, facts.max_pixels)
        if listing.doubtful:
            listing = _Listing(path, "SLICE", stop, facts.max_pixels)
        shown = listing.shown(facts, stop)
        if version is not None and version == _version(path):
            _memory.keep(version, facts, stop, listing, shown)
    return shown


Version = tuple[str, int, int, int, int, int]
"""A file's path, device, inode, size, and times of change: of its bytes and of its inode (ns)."""


def _version(path: Path) -> Version | None:
    """Return what changes when a file is changed or replaced; None if `path` is not a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    times = status.st_mtime_ns, status.st_ctime_ns
    return (str(path.absolute()), status.st_dev, status.st_ino, status.st_size, *times)


class _Memory:
    """The frames of the files that were listed last. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[object, dict[int | None, tuple[int, ShownFrames]]] = OrderedDict()

    def find(
        self, version: Version | None, facts: VideoFacts, stop: int | None
    ) -> ShownFrames | None:
        """Return what listing this version of a file up to `stop` would give, if that is known."""
        with self._lock:
            known = self._files.get((version, facts), {})
            if stop in known:
                return known[stop][1]
            # A file that ends before `stop` is listed in the same way whatever `stop` is.
            if stop is not None and None in known and known[None][0] < stop:
                return known[None][1]
            return None

    def keep(
        self,
        version: Version,
        facts: VideoFacts,
        stop: int | None,
        listing: "_Listing",
        shown: ShownFrames,
    ) -> None:
        with self._lock:
            known = self._files.setdefault((version, facts), {})
            known[None if listing.ended else stop] = (listing.decoded, shown)
            self._files.move_to_end((version, facts))
            while len(self._files) > _REMEMBERED:
                self._files.popitem(last=False)


_memory = _Memory()


class _Listing:
    """The result of decoding a file once.

    decoded: the number of frames. ended: whether the file's end was reached before `stop`.
    doubtful: whether the decoder's threads may have kept errors to themselves.
    """

    def __init__(self, path: Path, threads: str, stop: int | None, max_pixels: int) -> None:
        self.times: list[int] = []
        self.interlaced = False
        self.damage: str | None = None
        self._step = 0
        self._joins: list[int] = []
        with (
            captured_messages() as said,
            contextlib.closing(OpenVideo(path, threads, max_pixels)) as video,
        ):
            self.time_base = video.stream.time_base or Fraction(1, 1000)
            self._may_join = "mpeg" in video.container.format.name
            frames = video.frames(strict=True)
            try:
                while (stop is None or len(self.times) < stop) and (frame := next(frames, None)):
                    self._add(frame)
            except DamageError as damage:
                self.damage = str(damage)
            self.decoded = len(self.times)
            self.ended = stop is None or self.decoded < stop
            self.doubtful = threads == "FRAME" and (
                self.damage is not None or (self.ended and self.decoded != video.packet_count)
            )
        self._said = [words for _, who, words in said if "matroska" in who]

    def _add(self, frame: VideoFrame) -> None:
        before = self.times[-1] if self.times else None
        usual = 0 if before is None else before + max(self._step, 1)
        stated = frame.dts if frame.pts is None else frame.pts
        time = usual - self._shift if stated is None else stated
        if self._may_join and before is not None:
            gap = time + self._shift - before
            if not 0 < gap * self.time_base < LONGEST_GAP:  # A joined part has its own clock.
                self._joins.append(usual - time)
        time += self._shift
        self._step = frame.duration or (time - before if before is not None else 0)
        self.times.append(time)
        self.interlaced = self.interlaced or frame.interlaced_frame

    @property
    def _shift(self) -> int:
        """Return by how much the clock of the current part is behind that of the whole."""
        return self._joins[-1] if self._joins else 0

    def shown(self, facts: VideoFacts, stop: int | None) -> ShownFrames:
        """Return the frames that count, up to a hole that the container's reader reported."""
        times, damage = self.times, self.damage
        end = times[-1] + max(self._step, 1) if times else 0
        # Matroska's reader goes on after a damaged part, and only logs it.
        skipped = [words for words in self._said if "ended prematurely" not in words]
        if skipped and (intact := _intact(times)) < len(times):
            end = times[intact]
            del times[intact:]
        if stop is not None and len(times) >= stop:
            damage = None
        elif damage is None and skipped:
            damage = skipped[0].strip().rstrip(".")
        elif damage is None and self._is_short(facts, (end - self._shift) * self.time_base):
            damage = "it ends before the end that its header gives"
        return ShownFrames(
            times=tuple(times),
            end=end,
            time_base=self.time_base,
            joins=tuple(self._joins),
            interlaced=self.interlaced,
            damage=damage,
        )

    def _is_short(self, facts: VideoFacts, end: Fraction) -> bool:
        """Return whether the file was cut off: between two frames, it decodes without error."""
        if facts.until is None:
            return bool(self._said)
        # The headers of intact files are wrong by less than half a second.
        short = facts.until - end
        return short > Fraction(1, 2) or (
            bool(self._said) and short > 2 * self._step * self.time_base
        )


def _intact(times: list[int]) -> int:
    """Return how many frames come before the first hole in the times.

    The last frame before a hole may be damaged without the codec noticing, so it is left out.
    """
    steps = [b - a for a, b in pairwise(times)]
    usual = sorted(steps)[len(steps) // 2] if steps else 0
    holes = (i for i, step in enumerate(steps) if step > 2 * usual or step <= 0)
    return next(holes, len(times))
