"""Facts about a video file, from its headers and its first frame."""

import contextlib
import struct
from dataclasses import dataclass
from fractions import Fraction
from math import atan2, degrees, hypot
from pathlib import Path

from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc

from pnpvideo.clips.clip import Colour
from pnpvideo.clips.refusals import check_memory, damaged
from pnpvideo.clips.video.main_stream import stated_end, tagged_duration
from pnpvideo.clips.video.open_video import DamageError, OpenVideo
from pnpvideo.clips.video.tone_map import HLG, PQ, HighRange
from pnpvideo.errors import InputError
from pnpvideo.options.values import DEFAULT_MAX_PIXELS

Filters = tuple[tuple[str, str], ...]
"""FFmpeg filters, each with its options."""

_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED, of a colour matrix.


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """The facts about a video file's main picture stream.

    width, height: in pixels as shown, upright and square (non-square pixels are stretched, never
        shrunk).
    upright: the filters that crop and rotate a stored frame to what is shown.
    square: whether the stored pixels are square.
    pixel_format, container: FFmpeg's names, such as "yuv420p" and "matroska,webm".
    has_alpha: whether frames can be transparent.
    colour: of the stored frames. high_range: None if they have a standard dynamic range.
    matrix: the assumed colour matrix, if the frames need one and do not state it; otherwise None.
    rates: frame rates the file claims, likeliest first, with two decimals.
    start: seconds at which the file's clock starts.
    until: seconds, by that clock, at which the pictures end; None if the file does not state it.
    has_sound: whether there is sound, in any codec.
    stream_count: the number of picture streams. stream_number: of the one that is read, from 1.
    declared_count: the number of frames that the file declares; 0 if it does not.
    max_pixels: the limit on the pixels of a frame, which decoders get.
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
    stream_number: int
    declared_count: int
    max_pixels: int


def probe_video(path: Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> VideoFacts:
    """Return a video's facts.

    Raise InputError if it is not a video, has too many pixels, or no frame can be read.
    """
    with contextlib.closing(OpenVideo(path, "SLICE", max_pixels)) as video:
        try:
            frame = next(video.frames(strict=True), None)
        except DamageError as damage:
            raise damaged(path, str(damage), 0) from None
        if frame is None:
            raise InputError(f"{path} holds no frames, or is cut off before the first")
        facts = _facts(video, frame, max_pixels)
        # Pixels that are not square may make it larger.
        check_memory((facts.width, facts.height), path, max_pixels)
        return facts


def _facts(video: OpenVideo, frame: VideoFrame, max_pixels: int) -> VideoFacts:
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
    # Matroska states each stream's end; other files' duration may be that of longer sound, or of
    # another picture stream.
    until = tagged_duration(stream)
    if until is None and not container.streams.audio:
        if video.stream_count > 1:
            until = stated_end(stream)
        elif container.duration:
            until = start + Fraction(container.duration, 1_000_000)
    colour = _colour(frame)
    unspecified = frame.colorspace == _UNSPECIFIED and not frame.format.is_rgb
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
        # As players assume: BT.709 for high definition (720 lines or more), otherwise BT.601.
        matrix=("bt709" if frame.height >= 720 else "bt601") if unspecified else None,
        rates=tuple(
            round(float(rate), 2) for rate in (stream.average_rate, stream.base_rate) if rate
        ),
        start=start,
        until=until,
        has_sound=bool(container.streams.audio),
        stream_count=video.stream_count,
        stream_number=video.number,
        declared_count=_declared_count(video),
        max_pixels=max_pixels,
    )


def _declared_count(video: OpenVideo) -> int:
    """Return the number of frames that the header gives, if its duration agrees; otherwise 0."""
    stream = video.stream
    if not stream.frames or not stream.duration or not stream.average_rate:
        return 0
    by_time = stream.duration * (stream.time_base or 0) * stream.average_rate
    return min(stream.frames, round(by_time))


def _turn(frame: VideoFrame) -> Filters:
    """Return the filters that rotate a stored frame upright, as FFmpeg's command line chooses."""
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
    """Return the colour in a frame's tags; unspecified values are as in BT.709."""
    colour = Colour()
    with contextlib.suppress(ValueError):
        name = ColorTrc(frame.color_trc).name.lower().replace("_", "-")
        colour = Colour(transfer=colour.transfer if name == "unspecified" else name)
    with contextlib.suppress(ValueError):
        name = ColorPrimaries(frame.color_primaries).name.lower()
        if name != "unspecified":
            colour = Colour(primaries=name, transfer=colour.transfer)
    return colour


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
    """Return a frame's side data of one kind, as FFmpeg's structure; empty if it has none."""
    data = frame.side_data.get(name)
    return bytes(data) if isinstance(data, SideData) else b""
