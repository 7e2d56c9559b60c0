"""A video file -> Clip: through decord where that is exact and cheap, else through ffmpeg."""

import contextlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Clip, FrameReader, Frames, Sound
from pnpvideo.clips.damage import damaged
from pnpvideo.clips.ffmpeg import Ffmpeg, input_arguments
from pnpvideo.clips.frame_timing import find_timing
from pnpvideo.clips.probe_video import ShownFrames, VideoFacts, list_frames, probe_video
from pnpvideo.clips.read_options import ReadOptions
from pnpvideo.errors import InputError

try:
    import decord
except ImportError:  # It has no wheels for some platforms.
    decord = None

# decord keeps most frames it has decoded until its reader is deleted: 5.9 MB a frame at 3840x2160
# (7.0 GB after 960 of 1200 frames), 1.3 MB a frame at 1920x1080 (1.5 GB after 1160); up to
# 1280x720 it levels off (250 MB at 400 of 3000 frames, the same at the end). Measured with decord
# 0.6.0, one thread, batches of 8. A fresh reader every 48 frames bounds it (0.5 GB in 4K) but
# decodes from the last keyframe again, 40 % slower; ffmpeg's pipe holds one frame, so it reads
# what is larger than this.
_DECORD_PIXELS = 1280 * 720

# With these and even sizes, decord's RGB is bit for bit ffmpeg's. With 10 bits or odd sizes it is
# not (single pixels differ by up to 180 of 255 at coloured edges).
_DECORD_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray")


def read_video(path: Path, options: ReadOptions) -> Clip:
    """Clip of a video file. InputError where it is none, or damaged in what is wanted of it."""
    facts = probe_video(path)
    stop = options.stop
    # A few frames more tell how long the last one is shown.
    shown = list_frames(path, facts, None if stop is None else stop + options.stride)
    count = len(shown.times)
    short = shown.damage is not None and (stop is None or count < stop)
    if short and (count == 0 or not options.allow_truncated):
        raise damaged(path, str(shown.damage), count)
    if count == 0:
        raise InputError(f"{path} holds no frames, or is cut off before the first")
    chosen = options.choose(count if stop is None else min(stop, count), path)
    # The span shown while the chosen frames are, in the file's own time.
    until = min(chosen[-1] + options.stride, count)
    times = [time * shown.time_base for time in shown.times[options.start : until]]
    end = (shown.times[until] if until < count else shown.end) * shown.time_base
    timing = find_timing(
        times, end, tick=shown.time_base, claims=facts.rates, stride=options.stride
    )
    sound = None
    if facts.sound is not None:
        duration = len(chosen) / timing.frame_rate
        sound = Sound(path=path, start=max(times[0] - facts.start, Fraction(0)), duration=duration)
    return Clip(
        reader=VideoReader(path, facts, shown, chosen),
        width=facts.width,
        height=facts.height,
        timing=timing,
        sound=sound,
        name=path.stem,
    )


class VideoReader(FrameReader):
    """Frames `chosen` of a video file whose frames were listed before.

    decord is used where it is known to give ffmpeg's frames; it goes for good, in favour of
    ffmpeg, on the first failure.
    """

    def __init__(self, path: Path, facts: VideoFacts, shown: ShownFrames, chosen: range) -> None:
        self._path = path
        self._chosen = chosen
        self._shape = (facts.height, facts.width, 3)
        self._times = [shown.times[i] * shown.time_base for i in chosen]
        self._pipe = FfmpegFrames(path, facts, shown, chosen)
        self._decord: _Decord | None = None
        plain = facts.upright and facts.square and facts.pixel_format in _DECORD_FORMATS
        even = facts.width % 2 == 0 and facts.height % 2 == 0
        small = facts.width * facts.height <= _DECORD_PIXELS
        # A damaged file may hang decord or make it repeat frames.
        self._try_decord = plain and even and small and shown.damage is None and decord is not None

    def __len__(self) -> int:
        return len(self._chosen)

    @property
    def through_decord(self) -> bool:
        """Whether decord reads this file (known for certain once a frame has been read)."""
        return self._try_decord

    def read(self, start: int, stop: int) -> Frames:
        if start < stop and self._try_decord:
            try:
                return self._read_decord(start, stop)
            except Exception:  # decord raises errors of many kinds, its own C++ checks among them.
                self._try_decord, self._decord = False, None
        return self._pipe.read(start, stop)

    def _read_decord(self, start: int, stop: int) -> Frames:
        if self._decord is None:
            reader: _Decord = decord.VideoReader(str(self._path), ctx=decord.cpu(0), num_threads=1)
            _same_times(reader, self._chosen, self._times)
            self._decord = reader
        wanted = list(self._chosen[start:stop])
        frames = self._decord.get_batch(wanted).asnumpy()
        if frames.shape != (len(wanted), *self._shape):
            raise ValueError(f"decord gave frames of shape {frames.shape}")
        return np.ascontiguousarray(frames)

    def close(self) -> None:
        self._decord = None
        self._pipe.close()


class _Array(Protocol):
    def asnumpy(self) -> Frames: ...


class _Decord(Protocol):
    """What is used of `decord.VideoReader`, which has no types."""

    def __len__(self) -> int: ...
    def get_batch(self, indices: list[int]) -> _Array: ...
    def get_frame_timestamp(self, idx: list[int]) -> NDArray[np.floating]: ...


def _same_times(reader: _Decord, chosen: range, times: Sequence[Fraction]) -> None:
    """ValueError unless decord counts the frames as ffmpeg shows them (edit lists: it does not)."""
    if len(reader) <= chosen[-1]:
        raise ValueError("decord finds fewer frames")
    theirs = reader.get_frame_timestamp(list(chosen))[:, 0]
    ours = np.array([float(time) for time in times])
    closest = float(np.diff(ours).min()) if len(ours) > 1 else 0.02
    if np.abs(theirs - ours).max() > max(closest / 4, 1e-4):
        raise ValueError("decord finds other times")


class FfmpegFrames:
    """Chosen frames of a video through ffmpeg's pipe, upright and with square pixels.

    One ffmpeg runs on while frames are read in order; going back starts it anew, at the keyframe
    before.
    """

    def __init__(self, path: Path, facts: VideoFacts, shown: ShownFrames, chosen: range) -> None:
        self._path = path
        self._facts = facts
        self._shown = shown
        self._chosen = chosen
        self._process: Ffmpeg | None = None
        self._next = 0
        # Elsewhere (transport streams, AVI) a seek may land on another frame than asked for.
        self._seek = facts.container.startswith(("mov,", "matroska,"))

    def read(self, start: int, stop: int) -> Frames:
        """Frames start to stop - 1 of the chosen ones. InputError where the file has changed."""
        frames = np.empty((stop - start, self._facts.height, self._facts.width, 3), np.uint8)
        if start == stop:
            return frames
        if not self._fill(frames, start):
            # A seek may have started the decoder at a frame that it cannot start from.
            self._seek = False
            self.close()
            if not self._fill(frames, start):
                self.close()
                raise InputError(
                    f"{self._path} cannot be read to its end: frames from {start} on fail"
                )
        self._next = stop
        if stop == len(self._chosen):
            self.close()
        return frames

    def _fill(self, frames: Frames, start: int) -> bool:
        if self._process is None or not self._next <= start < self._next + 64:
            self._open(start)
        assert self._process is not None
        pipe = self._process.stdout
        for _ in range(start - self._next):
            if len(pipe.read(frames[0].nbytes)) < frames[0].nbytes:
                return False
        view = memoryview(frames.data).cast("B")
        return pipe.readinto(view) == len(view)  # type: ignore[attr-defined, no-any-return]

    def _open(self, start: int) -> None:
        self.close()
        first, step, times = self._chosen[start], self._chosen.step, self._shown.times
        seek: list[str] = []
        skip = first
        if self._seek and first > 0:
            # Between two frames, so that rounding cannot move it to another one.
            middle = Fraction(times[first - 1] + times[first], 2) * self._shown.time_base
            seek, skip = ["-ss", f"{float(middle - self._facts.start):.6f}"], 0
        pick = f"select='gte(n,{skip})*not(mod(n-{skip},{step}))'," if skip or step > 1 else ""
        strict = ["-xerror"] if self._shown.damage is None else []
        self._process = Ffmpeg(
            [
                *(*strict, "-threads", "0", *seek, *input_arguments(self._path)),
                *("-map", "0:V:0", "-fps_mode", "passthrough"),
                *("-vf", f"{pick}scale={self._facts.width}:{self._facts.height}"),
                *("-frames:v", str(len(self._chosen) - start)),
                *("-pix_fmt", "rgb24", "-f", "rawvideo", "-"),
            ]
        )
        self._next = start

    def close(self) -> None:
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.close()
            self._process = None
