"""A video file's facts, told by ffmpeg: size, rotation, pixel shape, and every shown frame."""

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from pnpvideo.clips.ffmpeg import Ffmpeg, condense, input_arguments
from pnpvideo.errors import InputError

# Containers we open. Others of ffmpeg's would turn text into video or follow links in playlists.
_CONTAINERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,ivf,dv,rm,wtv,gxf,h264,hevc,av1,obu"
    ",m4v,mjpeg,yuv4mpegpipe,gif,swf,mp3,wav,flac,aac,ac3,aiff,amr,caf,w64"
)


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """What a video file says of its first picture stream.

    width, height: in pixels as shown, upright and square (a non-square pixel is only ever
        stretched, never shrunk).
    upright, square: whether the stored frames already are.
    pixel_format, container: in ffmpeg's words, such as "yuv420p" and "matroska,webm".
    rates: frame rates the file claims, likeliest first, as printed (two decimals).
    start: seconds at which the file's own clock starts.
    until: seconds, by that clock, at which the pictures end; None where the file does not say.
    sound: codec of the first sound stream, None where there is none.
    """

    width: int
    height: int
    upright: bool
    square: bool
    pixel_format: str
    container: str
    rates: tuple[float, ...]
    start: Fraction
    until: Fraction | None
    sound: str | None


@dataclass(frozen=True, kw_only=True)
class ShownFrames:
    """The frames ffmpeg shows, in the order of showing.

    times: presentation times in units of time_base (seconds).
    end: time at which the last one ends, in the same units.
    damage: why the frames after the last one cannot be read; None where all is well.
    """

    times: list[int]
    end: int
    time_base: Fraction
    damage: str | None


def probe_video(path: Path) -> VideoFacts:
    """Facts of a video file, nothing decoded. InputError where it is none."""
    ffmpeg = Ffmpeg(
        ["-format_whitelist", _CONTAINERS, *input_arguments(path)], level="info"
    )  # No output named: ffmpeg prints what the file holds and stops.
    ffmpeg.wait()
    lines = list(ffmpeg.messages)
    text = "\n".join(lines)
    container = re.search(r"^Input #0, (\S+), from ", text, re.MULTILINE)
    if container is None:
        with path.open("rb") as file:
            is_mp4 = file.read(8)[4:] == b"ftyp"
        if "moov atom not found" in text and is_mp4:
            raise InputError(
                f"{path} is cut off: the table of its frames is missing, so none can be read"
            )
        raise InputError(f"{path} is not a video or an image, or is damaged: {_why(lines)}")
    streams = re.split(r"(?m)^(?=  Stream #0:)", text)
    pictures = [s for s in streams if ": Video: " in s and "(attached pic)" not in s]
    sounds = [m[1] for s in streams if (m := re.search(r": Audio: (\w+)", s.splitlines()[0]))]
    if not pictures:
        what = "it holds sound only" if sounds else "it holds no frames"
        raise InputError(f"{path} is not a video: {what}")
    stream = pictures[0]
    form = re.search(r": Video: \w+[^,]*, (\w+)", stream)
    size = re.search(r", (\d+)x(\d+)[ ,\n]", stream)
    if form is None or size is None:
        raise InputError(f"{path} cannot be read: its picture stream holds no frames")
    width, height = int(size[1]), int(size[2])
    shape = re.search(r"SAR (\d+):(\d+)", stream)
    ratio = Fraction(int(shape[1]), int(shape[2])) if shape and int(shape[2]) else Fraction(1)
    turned = re.search(r"rotation of (-?[\d.]+) degrees", stream)
    rotation = round(float(turned[1])) % 360 if turned else 0
    if rotation % 180 == 90:
        width, height, ratio = height, width, 1 / ratio if ratio else ratio
    stored = (width, height)
    if ratio > 1:
        width = round(width * ratio)
    elif 0 < ratio < 1:
        height = round(height / ratio)
    begin = re.search(r"Duration: .*start: (-?[\d.]+)", text)
    start = Fraction(begin[1]) if begin else Fraction(0)
    until = None
    # Matroska tells each stream's end; elsewhere the file's own may be that of a longer sound.
    if own := re.search(r"^\s+DURATION\s*: (\d+):(\d+):([\d.]+)", stream, re.MULTILINE):
        until = _seconds(own)
    elif not sounds and (whole := re.search(r"Duration: (\d+):(\d+):([\d.]+)", text)):
        until = start + _seconds(whole)
    rates = [re.search(rf"([\d.]+)(k?) {unit}\b", stream) for unit in ("fps", "tbr")]
    return VideoFacts(
        width=width,
        height=height,
        # A mirrored or odd display matrix is ffmpeg's to apply as well.
        upright="displaymatrix" not in stream.lower() and "display matrix" not in stream.lower(),
        square=stored == (width, height),
        pixel_format=form[1],
        container=container[1],
        rates=tuple(float(m[1]) * (1000 if m[2] else 1) for m in rates if m),
        start=start,
        until=until,
        sound=sounds[0] if sounds else None,
    )


def list_frames(path: Path, facts: VideoFacts, stop: int | None = None) -> ShownFrames:
    """The first `stop` frames (all where None) that ffmpeg shows, found by decoding them once.

    Decoding is the only way to know: edit lists, hidden frames and missing time stamps make the
    packets' count and times differ from the frames'. It also finds damage before any expensive
    work; without converting or copying pixels it is many times faster than what follows. What a
    codec without checksums decodes without complaint cannot be told from an intact frame.
    """
    limit = [] if stop is None else ["-frames:v", str(stop)]
    # -xerror: the first frame that is damaged ends the list, instead of being guessed at.
    ffmpeg = Ffmpeg(
        [
            *("-xerror", "-copyts", "-noautorotate", "-threads", "0"),
            *input_arguments(path),
            *("-map", "0:V:0", "-fps_mode", "passthrough", "-c:v", "wrapped_avframe"),
            *("-enc_time_base", "demux", *limit, "-f", "framecrc", "-"),
        ]
    )
    try:
        time_base, times, duration = Fraction(1, 1000), [], 0
        for line in ffmpeg.stdout:
            if line.startswith(b"#tb 0:"):
                time_base = Fraction(line.split()[2].decode())
            elif not line.startswith(b"#"):
                fields = line.split(b",")
                times.append(int(fields[2]))
                duration = int(fields[3])
        code = ffmpeg.wait()
    finally:
        ffmpeg.close()
    if duration <= 0 and len(times) > 1:
        duration = times[-1] - times[-2]
    end = times[-1] + max(duration, 1) if times else 0
    messages = list(ffmpeg.messages)
    # Matroska's reader goes on behind a damaged part, and only says so.
    skipped = [m for m in messages if "/matroska" in m or "[matroska" in m]
    skipped = [m for m in skipped if "ended prematurely" not in m]
    if skipped and (intact := _intact(times)) < len(times):
        end = times[intact]
        del times[intact:]
    damage = None
    if stop is None or len(times) < stop:
        if code != 0 or skipped:
            damage = _why(skipped or messages)
            if not times and damage.startswith("Cannot determine format"):
                damage = None  # So it says where there is nothing to decode.
        elif _is_short(facts, messages, end * time_base, duration * time_base):
            damage = "it ends before the end its header tells"
    return ShownFrames(times=times, end=end, time_base=time_base, damage=damage)


def _is_short(facts: VideoFacts, messages: list[str], end: Fraction, duration: Fraction) -> bool:
    """Whether the file was cut: between two frames, it then decodes without complaint.

    end, duration: of the last frame, in seconds.
    """
    if facts.until is None:
        return any("ended prematurely" in message for message in messages)
    # Healthy files lie by less than half a second.
    short = facts.until - end
    return short > Fraction(1, 2) or (bool(messages) and short > 2 * duration)


def _intact(times: list[int]) -> int:
    """How many frames come before the first hole in the times.

    The last one before a hole may be damaged itself without the codec noticing, and is left out.
    """
    steps = [b - a for a, b in pairwise(times)]
    usual = sorted(steps)[len(steps) // 2] if steps else 0
    holes = (i for i, step in enumerate(steps) if step > 2 * usual or step <= 0)
    return next(holes, len(times))


def _seconds(clock: re.Match[str]) -> Fraction:
    return int(clock[1]) * 3600 + int(clock[2]) * 60 + Fraction(clock[3])


def _why(lines: list[str]) -> str:
    """ffmpeg's reason in a few words."""
    reason = condense([line for line in lines if not line.startswith(("Input #", "  "))])
    return reason.removeprefix("Error opening input: ")
