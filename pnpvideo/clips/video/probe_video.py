"""A video file's facts, as the file and its first frame tell them."""

import contextlib
import re
import struct
from dataclasses import dataclass
from fractions import Fraction
from math import atan2, degrees, hypot
from pathlib import Path

from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc

from pnpvideo.clips.clip import Colour
from pnpvideo.clips.refusals import damaged
from pnpvideo.clips.video.open_video import DamageError, OpenVideo
from pnpvideo.clips.video.tone_map import HLG, PQ, HighRange
from pnpvideo.errors import InputError

Filters = tuple[tuple[str, str], ...]
"""FFmpeg's filters, each with its options."""

_UNTOLD = 2  # Of a colour matrix, AVCOL_SPC_UNSPECIFIED.


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
    stream_count: how many picture streams there are; the first is read.
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
    stream_count: int


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
    if (own := _told_end(stream.metadata.get("DURATION", ""))) is not None:
        until = own
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
        stream_count=video.stream_count,
    )


def _told_end(text: str) -> Fraction | None:
    """The seconds of "00:00:01.280000000"; None where a text says no time."""
    found = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", text)
    if found is None:
        return None
    hours, minutes, seconds = map(Fraction, found.groups())
    return hours * 3600 + minutes * 60 + seconds


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
