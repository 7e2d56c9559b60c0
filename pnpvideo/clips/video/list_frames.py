"""Listing of a video's frames, with their times, up to the end or the first damage."""

import contextlib
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from av.video.frame import VideoFrame

from pnpvideo.clips.video.open_video import DamageError, OpenVideo, captured_messages
from pnpvideo.clips.video.probe_video import VideoFacts

LONGEST_GAP = 10
"""Seconds. A longer gap in a transport stream means another clock (FFmpeg uses the same limit)."""


@dataclass(frozen=True, kw_only=True)
class ShownFrames:
    """The frames that FFmpeg shows, in display order.

    times: presentation times in units of time_base. time_base: seconds.
    end: time at which the last one ends, in the same units.
    joins: see `Sound`; in the same units.
    interlaced: whether any frame is interlaced.
    damage: why the frames after the last one cannot be read; None if the file is intact.
    """

    times: list[int]
    end: int
    time_base: Fraction
    joins: tuple[int, ...]
    interlaced: bool
    damage: str | None


def list_frames(path: Path, facts: VideoFacts, stop: int | None = None) -> ShownFrames:
    """Decode the first `stop` frames (None: all) once and return them as FFmpeg shows them.

    Decoding is the only way to know: with edit lists, hidden frames and missing time stamps, the
    packets' count and times differ from the frames'. It also finds damage before any expensive
    work; as no pixels are converted or copied, it is many times faster than the later steps. Damage
    that a codec without checksums decodes without an error is not noticed.
    """
    listing = _Listing(path, "FRAME", stop)
    if listing.doubtful:
        listing = _Listing(path, "SLICE", stop)
    return listing.shown(facts, stop)


class _Listing:
    """The result of decoding a file once.

    doubtful: whether the decoder's threads may have hidden errors.
    """

    def __init__(self, path: Path, threads: str, stop: int | None) -> None:
        self.times: list[int] = []
        self.interlaced = False
        self.damage: str | None = None
        self._step = 0
        self._joins: list[int] = []
        with captured_messages() as messages, contextlib.closing(OpenVideo(path, threads)) as video:
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
        self._reader_errors = [text for _, component, text in messages if "matroska" in component]

    def _add(self, frame: VideoFrame) -> None:
        previous = self.times[-1] if self.times else None
        expected = 0 if previous is None else previous + max(self._step, 1)
        stamp = frame.dts if frame.pts is None else frame.pts
        time = expected - self._shift if stamp is None else stamp
        if self._may_join and previous is not None:
            gap = time + self._shift - previous
            if not 0 < gap * self.time_base < LONGEST_GAP:  # A joined part has another clock.
                self._joins.append(expected - time)
        time += self._shift
        self._step = frame.duration or (time - previous if previous is not None else 0)
        self.times.append(time)
        self.interlaced = self.interlaced or frame.interlaced_frame

    @property
    def _shift(self) -> int:
        """Return how far the current part's clock is behind that of the whole, in time_base."""
        return self._joins[-1] if self._joins else 0

    def shown(self, facts: VideoFacts, stop: int | None) -> ShownFrames:
        times, damage = self.times, self.damage
        end = times[-1] + max(self._step, 1) if times else 0
        # Matroska's reader continues after a damaged part, and only logs it.
        skipped = [text for text in self._reader_errors if "ended prematurely" not in text]
        if skipped and (intact := _intact_count(times)) < len(times):
            end = times[intact]
            del times[intact:]
        if stop is not None and len(times) >= stop:
            damage = None
        elif damage is None and skipped:
            damage = skipped[0].strip().rstrip(".")
        elif damage is None and self._is_short(facts, (end - self._shift) * self.time_base):
            damage = "it ends before the time that its header states"
        return ShownFrames(
            times=times,
            end=end,
            time_base=self.time_base,
            joins=tuple(self._joins),
            interlaced=self.interlaced,
            damage=damage,
        )

    def _is_short(self, facts: VideoFacts, end: Fraction) -> bool:
        """Return whether the file was cut; if cut between frames, it decodes without an error."""
        if facts.until is None:
            return bool(self._reader_errors)
        # Headers of intact files are wrong by less than half a second.
        short = facts.until - end
        return short > Fraction(1, 2) or (
            bool(self._reader_errors) and short > 2 * self._step * self.time_base
        )


def _intact_count(times: list[int]) -> int:
    """Return how many frames precede the first gap in the times.

    The last frame before a gap may be damaged without the codec noticing, and is left out.
    """
    steps = [b - a for a, b in pairwise(times)]
    usual = sorted(steps)[len(steps) // 2] if steps else 0
    gaps = (i for i, step in enumerate(steps) if step > 2 * usual or step <= 0)
    return next(gaps, len(times))
