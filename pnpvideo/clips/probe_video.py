"""A video file's facts, told by its first frame, and every frame that it shows."""

import contextlib
import struct
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import atan2, degrees, hypot
from pathlib import Path

from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc

from pnpvideo.clips.clip import Colour
from pnpvideo.clips.damage import damaged
from pnpvideo.clips.open_video import DamageError, OpenVideo, complaints
from pnpvideo.clips.tone_map import HLG, PQ, HighRange
from pnpvideo.errors import InputError

Filters = tuple[tuple[str, str], ...]
"""FFmpeg's filters, each with its options."""

_UNTOLD = 2  # Of a colour matrix, AVCOL_SPC_UNSPECIFIED.

# Of transport streams: a longer gap than this is no gap, but another clock (ffmpeg has the same).
LONGEST_GAP = 10
"""Seconds."""


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """What a video file says of its first picture stream.

    width, height: in pixels as shown, upright and square (a non-square pixel is only ever
        stretched, never shrunk).
    upright: the filters that cut and turn a stored frame to what is shown.
    square: whether the stored pixels are.
    pixel_format, container: in FFmpeg's words, such as "yuv420p" and "matroska,webm".
    has_alpha: whether frames can be transparent.
    colour: of the stored frames. high_range: None where they are of the standard one.
    matrix: of stored frames that do not tell theirs and need one; None otherwise.
    rates: frame rates the file claims, likeliest first, with two decimals.
    start: seconds at which the file's own clock starts.
    until: seconds, by that clock, at which the pictures end; None where the file does not say.
    has_sound: whether there is any, of whatever codec.
    """

    width: int
    height: int
    upright: Filters
    square: bool
    pixel_format: str
    container: str
    has_alpha: bool
    colour: Colour
    high_range: HighRange | None
    matrix: str | None
    rates: tuple[float, ...]
    start: Fraction
    until: Fraction | None
    has_sound: bool


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


def probe_video(path: Path) -> VideoFacts:
    """Facts of a video file. InputError where it is none, or has no frame that can be read."""
    with contextlib.closing(OpenVideo(path, "SLICE")) as video:
        try:
            frame = next(video.frames(strict=True), None)
        except DamageError as damage:
            raise damaged(path, str(damage), 0) from None
        if frame is None:
            raise InputError(f"{path} holds no frames, or is cut off before the first")
        return _facts(video, frame)


def _facts(video: OpenVideo, frame: VideoFrame) -> VideoFacts:
    container, stream = video.container, video.stream
    left, right, top, bottom = video.crop()
    width, height = frame.width - left - right, frame.height - top - bottom
    upright: Filters = ()
    if (left, right, top, bottom) != (0, 0, 0, 0):
        upright = (("crop", f"{width}:{height}:{left}:{top}:exact=1"),)
    turn = _turn(frame)
    ratio = stream.sample_aspect_ratio or Fraction(1)
    if any(name == "transpose" for name, _ in turn):
        width, height, ratio = height, width, 1 / ratio
    stored = (width, height)
    if ratio > 1:
        width = round(width * ratio)
    else:
        height = round(height / ratio)
    start = Fraction(container.start_time or 0, 1_000_000)
    until = None
    # Matroska tells each stream's end; elsewhere the file's own may be that of a longer sound.
    if own := stream.metadata.get("DURATION"):
        hours, minutes, seconds = own.split(":")
        until = int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    elif not container.streams.audio and container.duration:
        until = start + Fraction(container.duration, 1_000_000)
    colour = _colour(frame)
    untold = frame.colorspace == _UNTOLD and not frame.format.is_rgb
    return VideoFacts(
        width=width,
        height=height,
        upright=upright + turn,
        square=stored == (width, height),
        pixel_format=frame.format.name,
        container=container.format.name,
        has_alpha=any(part.is_alpha for part in frame.format.components),
        colour=colour,
        high_range=_high_range(frame, colour.transfer),
        # As players guess: what is high definition, 720 lines or more, has its matrix.
        matrix=("bt709" if frame.height >= 720 else "bt601") if untold else None,
        rates=tuple(
            round(float(rate), 2) for rate in (stream.average_rate, stream.base_rate) if rate
        ),
        start=start,
        until=until,
        has_sound=bool(container.streams.audio),
    )


def _turn(frame: VideoFrame) -> Filters:
    """The filters that make a stored frame upright, as ffmpeg's command line chooses them."""
    stored = _side_data(frame, "DISPLAYMATRIX")
    if not stored:
        return ()
    matrix = struct.unpack("9i", stored)
    across, down = hypot(matrix[0], matrix[3]), hypot(matrix[1], matrix[4])
    if not across or not down:
        return ()
    angle = round(degrees(atan2(matrix[1] / down, matrix[0] / across))) % 360
    if angle == 90:
        return (("transpose", "cclock_flip" if matrix[3] > 0 else "clock"),)
    if angle == 270:
        return (("transpose", "clock_flip" if matrix[3] < 0 else "cclock"),)
    if angle not in (0, 180):
        return (("rotate", f"{angle}*PI/180"),)
    flips: Filters = (("hflip", ""),) if angle == 180 and matrix[0] < 0 else ()
    return (*flips, ("vflip", "")) if matrix[4] < 0 else flips


def _colour(frame: VideoFrame) -> Colour:
    """What a frame's tags say; what they leave open is as in BT.709."""
    known = Colour()
    with contextlib.suppress(ValueError):
        name = ColorTrc(frame.color_trc).name.lower().replace("_", "-")
        known = Colour(transfer=known.transfer if name == "unspecified" else name)
    with contextlib.suppress(ValueError):
        name = ColorPrimaries(frame.color_primaries).name.lower()
        if name != "unspecified":
            known = Colour(primaries=name, transfer=known.transfer)
    return known


def _high_range(frame: VideoFrame, transfer: str) -> HighRange | None:
    if transfer not in (PQ, HLG):
        return None
    if light := _side_data(frame, "CONTENT_LIGHT_LEVEL"):
        (brightest,) = struct.unpack_from("I", light)
        if brightest:
            return HighRange(transfer=transfer, peak=brightest)
    if display := _side_data(frame, "MASTERING_DISPLAY_METADATA"):
        # AVMasteringDisplayMetadata: eight fractions of colour, the darkest, the brightest.
        parts, whole = struct.unpack_from("2i", display, 72)
        if parts > 0 and whole > 0:
            return HighRange(transfer=transfer, peak=parts / whole)
    return HighRange(transfer=transfer)


def _side_data(frame: VideoFrame, name: str) -> bytes:
    """What a frame brings of one kind, as FFmpeg's structure of it; empty where nothing."""
    found = frame.side_data.get(name)
    return bytes(found) if isinstance(found, SideData) else b""


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
        with complaints() as said, contextlib.closing(OpenVideo(path, threads)) as video:
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
