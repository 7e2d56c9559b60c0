"""Frames -> a video file through ffmpeg: exact times, true colours, the source's sound."""

from collections.abc import Iterator
from fractions import Fraction
from math import lcm
from pathlib import Path

import numpy as np

from pnpvideo.clips.clip import Frames, Sound, Timing
from pnpvideo.clips.ffmpeg import Ffmpeg, input_arguments
from pnpvideo.clips.matroska import frame_head, stream_head
from pnpvideo.clips.probe_video import probe_video
from pnpvideo.errors import InputError, RunError

# Suffix -> ffmpeg's name of the container.
CONTAINERS = {
    **{".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"},
    **{".mkv": "matroska", ".webm": "webm", ".gif": "gif"},
}

# Sound codecs that go into a container as they are, and play there. All others are encoded anew.
_ISO_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac"})
_COPIED_SOUND = {
    "mp4": _ISO_SOUND,
    "mov": _ISO_SOUND | {"pcm_s16le", "pcm_s24le", "pcm_s16be"},
    "matroska": _ISO_SOUND | {"opus", "vorbis", "flac", "mp2", "dts", "pcm_s16le", "pcm_s24le"},
    "webm": frozenset({"opus", "vorbis"}),
}


def write_video(
    frames: Iterator[Frames],
    part: Path,
    *,
    output: Path,
    timing: Timing,
    sound: Sound | None,
    quality: int,
) -> None:
    """Write `part`, whose suffix says the format and which `output` is the later name of.

    The rest is as in `write_clip`.
    """
    container = CONTAINERS[part.suffix.lower()]
    first = next(frames, None)
    if first is None or not len(first):
        raise InputError("there are no frames to write")
    height, width = first.shape[1:3]
    # H.264's 4:2:0 needs even sizes. Its last column or row is repeated once: no pixel is lost or
    # resampled, and all players show it. VP9 and GIF take odd sizes as they are.
    pad_width, pad_height = (0, 0) if container in ("webm", "gif") else (width % 2, height % 2)
    size = (width + pad_width, height + pad_height)
    clock = _Clock(timing, gif=container == "gif")
    ffmpeg = Ffmpeg(_arguments(container, size, clock, sound, quality, part), feed=True)
    assert ffmpeg.stdin is not None
    try:
        try:
            if clock.each is not None:
                ffmpeg.stdin.write(stream_head(*size))
            done = 0
            while first is not None:
                if first.shape[1:] != (height, width, 3) or first.dtype != np.uint8:
                    raise ValueError(
                        f"frames must be uint8 of shape (n, {height}, {width}, 3), not "
                        f"{first.dtype} of shape {first.shape}"
                    )
                padding = ((0, 0), (0, pad_height), (0, pad_width), (0, 0))
                batch = np.ascontiguousarray(np.pad(first, padding, mode="edge"))
                for frame in batch:
                    if clock.each is not None:
                        ffmpeg.stdin.write(frame_head(*clock.each(done), frame.nbytes))
                    ffmpeg.stdin.write(frame.data)
                    done += 1
                first = next(frames, None)
            ffmpeg.stdin.close()
        except (BrokenPipeError, ConnectionResetError):
            pass  # ffmpeg has stopped: its messages say why.
        if ffmpeg.wait() != 0:
            raise RunError(f"{output} cannot be written: {ffmpeg.failure()}")
    finally:
        ffmpeg.close()


class _Clock:
    """The times of the written frames.

    base: seconds, the unit in which the file counts; every time is a multiple of it, if it can be.
    each: frame number -> (time, duration) in seconds, None for a constant rate.
    """

    def __init__(self, timing: Timing, *, gif: bool) -> None:
        self.rate = timing.frame_rate
        self.base = 1 / timing.frame_rate
        self._start_of = timing.start_of
        self.each = None if timing.times is None else self._varying
        if gif:
            self.base = Fraction(1, 100)
            self.each = self._hundredths
            self._next = 0
        elif timing.times is not None:
            end = len(timing.times) / timing.frame_rate
            units = lcm(*(time.denominator for time in (*timing.times, end)))
            # Few enough for all containers; 90000 is the customary one.
            self.base = Fraction(1, units if units <= 1_000_000 else 90_000)

    def _varying(self, number: int) -> tuple[Fraction, Fraction]:
        time = self._start_of(number)
        return time, max(self._start_of(number + 1) - time, self.base)

    def _hundredths(self, number: int) -> tuple[Fraction, Fraction]:
        """GIF counts in 1/100 s, and viewers slow frames of less than 2/100 s down to 10/100 s."""
        time = self._next
        self._next = max(round(self._start_of(number + 1) * 100), time + 2)
        return Fraction(time, 100), Fraction(self._next - time, 100)


def _arguments(
    container: str,
    size: tuple[int, int],
    clock: _Clock,
    sound: Sound | None,
    quality: int,
    part: Path,
) -> list[str]:
    raw = ["-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{size[0]}x{size[1]}"]
    source = [*raw, "-framerate", str(clock.rate)] if clock.each is None else ["-f", "matroska"]
    base = f"{clock.base.numerator}/{clock.base.denominator}"
    heard = None if container == "gif" else sound
    return [
        *("-y", *source, "-i", "pipe:0", *(_sound_input(heard) if heard else [])),
        *(*_picture_arguments(container, clock, quality), "-fps_mode:v", "passthrough"),
        *(*(_sound_arguments(container, heard) if heard else []), "-enc_time_base:v", base),
        *("-f", container, f"file:{part}"),
    ]


def _picture_arguments(container: str, clock: _Clock, quality: int) -> list[str]:
    if container == "gif":
        # A palette for each frame: one for all would need all frames in memory.
        palette = "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1"
        return ["-filter_complex", f"[0:v]{palette}[v]", "-map", "[v]", "-loop", "0"]
    # Without the matrix named, ffmpeg uses BT.601 and players guess BT.709: the colours shift.
    colour = "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int"
    arguments = ["-map", "0:v:0", "-vf", f"{colour},format=yuv420p", "-color_range", "tv"]
    arguments += ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
    if container == "webm":  # Quality 80 is CRF 24 of 63, 100 is 16.
        speed = ("-deadline", "good", "-cpu-used", "4", "-row-mt", "1")  # Else 10 times slower.
        crf = f"{58 - 0.42 * quality:.0f}"
        return [*arguments, "-c:v", "libvpx-vp9", "-crf", crf, "-b:v", "0", *speed]
    # Quality 80 is CRF 18 of 51 (hard to tell from the source), 100 is 11.
    arguments += ["-c:v", "libx264", "-preset", "medium", "-crf", f"{46 - 0.35 * quality:.1f}"]
    if clock.each is not None:
        # MP4 stores times between decoded frames; in another order than shown, the last is lost.
        arguments += ["-bf", "0"]
    return arguments if container == "matroska" else [*arguments, "-movflags", "+faststart"]


def _sound_input(sound: Sound) -> list[str]:
    cut = ["-ss", f"{float(sound.start):.6f}", "-t", f"{float(sound.duration):.6f}"]
    return [*cut, *input_arguments(sound.path)]


def _sound_arguments(container: str, sound: Sound) -> list[str]:
    """How the second input's sound is written: as it is where that can be."""
    arguments = ["-map", "1:a:0?"]
    if probe_video(sound.path).sound not in _COPIED_SOUND[container]:
        codec = "libopus" if container == "webm" else "aac"
        return [*arguments, "-c:a", codec, "-b:a", "160k"]
    # The last packet may reach over the end (by 20 ms or so): it is told to stop there.
    end = f"round({float(sound.duration):.6f}/TB)"
    cutter = f"setts=duration='min(DURATION,max(1,{end}-PTS))'"
    if container in ("matroska", "webm"):
        # These cannot hide packets from before the cut, as MP4 can: the pictures would be delayed.
        cutter = f"noise=drop='lt(pts,0)',{cutter}"
    return [*arguments, "-c:a", "copy", "-bsf:a", cutter]
