"""Every frame that a video file shows, with its time, up to its end or the first damage."""

import contextlib
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from av.video.frame import VideoFrame

from pnpvideo.clips.video.open_video import DamageError, OpenVideo, captured_messages
from pnpvideo.clips.video.probe_video import VideoFacts

# Of transport streams: a longer gap than this is no gap, but another clock (ffmpeg has the same).
LONGEST_GAP = 10
"""Seconds."""


@dataclass(frozen=True, kw_only=True)
class ShownFrames:
    """The frames FFmpeg shows, in the order of showing.

    times: presentation times in units of time_base (seconds).
    end: time at which the last one ends, in the same units.
    joins: see `Sound`; in the same units.
    interlaced: whether any of them is.
    damage: why the frames after the last one cannot be read; None where all is well.
    """

    times: list[int]
    end: int
    time_base: Fraction
    joins: tuple[int, ...]
    interlaced: bool
    damage: str | None


def list_frames(path: Path, facts: VideoFacts, stop: int | None = None) -> ShownFrames:
    """The first `stop` frames (all where None) that FFmpeg shows, found by decoding them once.

    Decoding is the only way to know: edit lists, hidden frames and missing time stamps make the
    packets' count and times differ from the frames'. It also finds damage before any expensive
    work; without converting or copying pixels it is many times faster than what follows. What a
    codec without checksums decodes without complaint cannot be told from an intact frame.
    """
    listing = _Listing(path, "FRAME", stop)
    if listing.doubtful:
        listing = _Listing(path, "SLICE", stop)
    return listing.shown(facts, stop)


class _Listing:
    """What one decoding of a file tells.

    doubtful: errors that the decoder's threads may have kept to themselves.
    """

    def __init__(self, path: Path, threads: str, stop: int | None) -> None:
        self.times: list[int] = []
        self.interlaced = False
        self.damage: str | None = None
        self._step = 0
        self._joins: list[int] = []
        with captured_messages() as said, contextlib.closing(OpenVideo(path, threads)) as video:
            self.time_base = video.stream.time_base or Fraction(1, 1000)
            self._may_join = "mpeg" in video.container.format.name
            frames = video.frames(strict=True)
            try:
                while (stop is None or len(self.times) < stop) and (frame := next(frames, None)):
                    self._add(frame)
            except DamageError as damage:
                self.damage = str(damage)
            ended = stop is None or len(self.times) < stop
            self.doubtful = threads == "FRAME" and (
                self.damage is not None or (ended and len(self.times) != video.packet_count)
            )
        self._said = [words for _, who, words in said if "matroska" in who]

    def _add(self, frame: VideoFrame) -> None:
        before = self.times[-1] if self.times else None
        usual = 0 if before is None else before + max(self._step, 1)
        told = frame.dts if frame.pts is None else frame.pts
        time = usual - self._shift if told is None else told
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
        """What the clock of the part under way is behind that of the whole."""
        return self._joins[-1] if self._joins else 0

    def shown(self, facts: VideoFacts, stop: int | None) -> ShownFrames:
        times, damage = self.times, self.damage
        end = times[-1] + max(self._step, 1) if times else 0
        # Matroska's reader goes on behind a damaged part, and only says so.
        skipped = [words for words in self._said if "ended prematurely" not in words]
        if skipped and (intact := _intact(times)) < len(times):
            end = times[intact]
            del times[intact:]
        if stop is not None and len(times) >= stop:
            damage = None
        elif damage is None and skipped:
            damage = skipped[0].strip().rstrip(".")
        elif damage is None and self._is_short(facts, (end - self._shift) * self.time_base):
            damage = "it ends before the end its header tells"
        return ShownFrames(
            times=times,
            end=end,
            time_base=self.time_base,
            joins=tuple(self._joins),
            interlaced=self.interlaced,
            damage=damage,
        )

    def _is_short(self, facts: VideoFacts, end: Fraction) -> bool:
        """Whether the file was cut: between two frames, it then decodes without complaint."""
        if facts.until is None:
            return bool(self._said)
        # Healthy files lie by less than half a second.
        short = facts.until - end
        return short > Fraction(1, 2) or (
            bool(self._said) and short > 2 * self._step * self.time_base
        )


def _intact(times: list[int]) -> int:
    """How many frames come before the first hole in the times.

    The last one before a hole may be damaged itself without the codec noticing, and is left out.
    """
    steps = [b - a for a, b in pairwise(times)]
    usual = sorted(steps)[len(steps) // 2] if steps else 0
    holes = (i for i, step in enumerate(steps) if step > 2 * usual or step <= 0)
    return next(holes, len(times))
