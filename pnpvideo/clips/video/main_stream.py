"""Choice of a video file's main picture stream, and what the file states about its end."""

import re
from collections.abc import Sequence
from fractions import Fraction

from av.stream import Disposition
from av.video.stream import VideoStream

_THUMBNAIL = Disposition.still_image | Disposition.timed_thumbnails | Disposition.dependent
# Codecs of thumbnails, and of small videos.
_PICTURE_CODECS = ("mjpeg", "png", "bmp", "webp", "gif", "tiff", "jpeg2000", "jpegxl")


def main_stream(streams: Sequence[VideoStream]) -> VideoStream:
    """Return the first stream that is marked as default, or else the first of all.

    A thumbnail is returned only if there is nothing else. A file may mark all its streams as
    default, or none.
    """
    return min(streams, key=_precedence)


def _precedence(stream: VideoStream) -> tuple[bool, bool, bool]:
    has_picture_codec = stream.codec is not None and stream.codec.name in _PICTURE_CODECS
    is_thumbnail = bool(stream.disposition & _THUMBNAIL)
    is_thumbnail = is_thumbnail or (has_picture_codec and _is_one_frame(stream))
    return is_thumbnail, not stream.disposition & Disposition.default, has_picture_codec


def _is_one_frame(stream: VideoStream) -> bool:
    if stream.frames:
        return stream.frames == 1
    seconds = tagged_duration(stream)
    return seconds is not None and seconds * (stream.average_rate or 1) < 2


def tagged_duration(stream: VideoStream) -> Fraction | None:
    """Return the seconds in a stream's tag, such as "00:00:01.280000000"; None if it has none.

    Matroska has it for each stream.
    """
    match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if match is None:
        return None
    hours, minutes, seconds = map(Fraction, match.groups())
    return hours * 3600 + minutes * 60 + seconds


def stated_end(stream: VideoStream) -> Fraction | None:
    """Return the seconds, by the file's clock, at which a stream ends by its own header."""
    if not stream.duration or not stream.time_base:
        return None
    return ((stream.start_time or 0) + stream.duration) * stream.time_base
