"""Reading of a video file -> Clip with PyAV, or with decord if that gives the same frames."""

import contextlib
import logging
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from pnpvideo.clips.clip import Alpha, Clip, Colour, FrameReader, Frames, Sound
from pnpvideo.clips.read_options import ReadOptions
from pnpvideo.clips.refusals import damaged
from pnpvideo.clips.video.convert_frames import Converter
from pnpvideo.clips.video.frame_timing import find_timing
from pnpvideo.clips.video.list_frames import ShownFrames, list_frames
from pnpvideo.clips.video.open_video import DamageError, OpenVideo
from pnpvideo.clips.video.probe_video import VideoFacts, probe_video
from pnpvideo.clips.video.read_decord import (
    DecordEndedError,
    DecordError,
    DecordFrames,
    has_decord,
    is_plain,
)
from pnpvideo.errors import InputError

_log = logging.getLogger(__name__)


def read_video(path: Path, options: ReadOptions) -> Clip:
    """Return a clip of a video file.

    Raise InputError if it is not a video, or if the requested part of it is damaged.
    """
    facts = probe_video(path, options.max_pixels)
    options.check_count(facts.declared_count, path)
    stop = options.stop
    # A few more frames than are needed show how long the last one lasts.
    shown = list_frames(path, facts, options.most_looked_at)
    count = len(shown.times)
    short = shown.damage is not None and (stop is None or count < stop)
    if short and (count == 0 or not options.allow_truncated):
        raise damaged(path, str(shown.damage), count)
    chosen = options.choose(count if stop is None else min(stop, count), path)
    # The times of all frames in the chosen range, by the file's clock.
    until = min(chosen[-1] + options.stride, count)
    times = [time * shown.time_base for time in shown.times[options.start : until]]
    end = (shown.times[until] if until < count else shown.end) * shown.time_base
    timing = find_timing(
        times, end, tick=shown.time_base, claims=facts.rates, stride=options.stride
    )
    sound = None
    if facts.has_sound:
        duration = len(chosen) / timing.frame_rate
        start = max(times[0] - facts.start, Fraction(0))
        joins = tuple(join * shown.time_base for join in shown.joins)
        sound = Sound(path=path, start=start, duration=duration, joins=joins)
    _log_facts(path, facts, shown, options)
    mapped = facts.high_range is not None and options.hdr == "map"
    return Clip(
        reader=VideoReader(path, facts, shown, chosen, options),
        width=facts.width,
        height=facts.height,
        has_alpha=facts.has_alpha,
        timing=timing,
        sound=sound,
        colour=Colour() if mapped else facts.colour,
        name=path.stem,
    )


def _log_facts(path: Path, facts: VideoFacts, shown: ShownFrames, options: ReadOptions) -> None:
    """Log conversions that users may not expect, and assumptions."""
    if facts.stream_count > 1:
        which = "the first" if facts.stream_number == 1 else f"number {facts.stream_number}"
        _log.info("%s has %d video streams: reading %s", path, facts.stream_count, which)
    if facts.high_range is not None:
        treatment = "tone-mapped to BT.709" if options.hdr == "map" else "kept as it is"
        _log.info(
            "%s has a high dynamic range (%s): %s", path, facts.high_range.transfer, treatment
        )
    if shown.interlaced:
        _log.info("%s is interlaced: its frames are deinterlaced", path)
    if facts.matrix is not None:
        _log.debug("%s does not state its colour matrix: assuming %s", path, facts.matrix)


class VideoReader(FrameReader):
    """A reader of the chosen frames of a video file whose frames have been listed.

    decord is used if the options allow it and it is known to return FFmpeg's frames; after its
    first failure PyAV reads all further frames.
    """

    def __init__(
        self,
        path: Path,
        facts: VideoFacts,
        shown: ShownFrames,
        chosen: range,
        options: ReadOptions,
    ) -> None:
        self._path, self._chosen = path, chosen
        self._has_alpha, self._background = facts.has_alpha, options.background
        self._frames = DecodedFrames(path, facts, shown, chosen, options.hdr == "map")
        self._decord: DecordFrames | None = None
        if options.reader == "decord" and is_plain(facts, shown) and has_decord():
            times = [shown.times[i] * shown.time_base for i in chosen]
            self._decord = DecordFrames(path, chosen, times, (facts.width, facts.height))

    def __len__(self) -> int:
        return len(self._chosen)

    @property
    def uses_decord(self) -> bool:
        """Return whether decord reads this file (certain only after a frame has been read)."""
        return self._decord is not None

    def read(self, start: int, stop: int) -> Frames:
        if start < stop and self._decord is not None:
            try:
                return self._decord.read(start, stop)
            except DecordError as error:
                # A crash or a hang is worth knowing; that it does not know a file is not.
                level = logging.WARNING if isinstance(error, DecordEndedError) else logging.DEBUG
                _log.log(level, "%s: decord failed (%s), so PyAV reads it", self._path, error)
                self._leave_decord()
        pictures = self._frames.read(start, stop)
        return self._on_background(pictures) if self._has_alpha else pictures

    def _on_background(self, pictures: NDArray[np.uint8]) -> Frames:
        frames = np.empty((*pictures.shape[:3], 3), np.uint8)
        below = Image.new("RGB", (pictures.shape[2], pictures.shape[1]), self._background)
        for frame, picture in zip(frames, map(Image.fromarray, pictures), strict=True):
            frame[:] = Image.composite(picture.convert("RGB"), below, picture.getchannel("A"))
        return frames

    def read_alpha(self, start: int, stop: int) -> Alpha:
        return self._frames.read(start, stop)[..., 3]

    def _leave_decord(self) -> None:
        if self._decord is not None:
            self._decord.close()
            self._decord = None

    def close(self) -> None:
        self._leave_decord()
        self._frames.close()


class DecodedFrames:
    """The chosen frames of a video, read with PyAV and converted by `Converter`.

    One decoder continues while frames are read in order; going back starts a new one at the
    previous keyframe.
    """

    def __init__(
        self, path: Path, facts: VideoFacts, shown: ShownFrames, chosen: range, tone_map: bool
    ) -> None:
        self._path = path
        self._shown = shown
        self._chosen = chosen
        self._converter = Converter(facts, deinterlace=shown.interlaced, tone_map=tone_map)
        self._max_pixels = facts.max_pixels
        self._shape = (facts.height, facts.width, 4 if facts.has_alpha else 3)
        self._pictures: Iterator[NDArray[np.uint8]] | None = None
        self._open_file = contextlib.ExitStack()
        self._next = 0
        # In other containers (transport streams, AVI) a seek may land on the wrong frame.
        self._can_seek = facts.container.startswith(("mov,", "matroska,"))

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Read the chosen frames start to stop - 1. Raise InputError if the file has changed."""
        frames = np.empty((stop - start, *self._shape), np.uint8)
        if start == stop:
            return frames
        if not self._fill(frames, start):
            # A seek may have led to a frame from which decoding cannot start.
            self._can_seek = False
            self.close()
            if not self._fill(frames, start):
                self.close()
                raise InputError(
                    f"{self._path} cannot be read to its end: decoding fails from frame {start} on"
                )
        self._next = stop
        if stop == len(self._chosen):
            self.close()
        return frames

    def _fill(self, frames: NDArray[np.uint8], start: int) -> bool:
        if self._pictures is None or not self._next <= start < self._next + 64:
            self._open(start)
        assert self._pictures is not None
        count = 0
        try:
            for picture in islice(self._pictures, start - self._next, None):
                frames[count] = picture
                count += 1
                if count == len(frames):
                    return True
        except DamageError:
            pass
        return False

    def _open(self, start: int) -> None:
        self.close()
        # An intact file can be decoded by several threads; a damaged one needs exact errors.
        video = OpenVideo(
            self._path, "FRAME" if self._shown.damage is None else "SLICE", self._max_pixels
        )
        self._open_file.callback(video.close)
        first, self._next = self._chosen[start], start
        if not self._shown.interlaced:
            numbered = self._numbered(video, first)
            self._pictures = self._converter.convert(
                frame for number, frame in numbered if number in self._chosen
            )
            return
        # Deinterlacing needs the frames before and after, too.
        first_needed = max(first - 1, 0)
        all_frames = (frame for _, frame in self._numbered(video, first_needed))
        pictures = self._converter.convert(all_frames)
        self._pictures = islice(pictures, first - first_needed, None, self._chosen.step)

    def _numbered(self, video: OpenVideo, first: int) -> Iterator[tuple[int, VideoFrame]]:
        """Yield the frames from number `first` on, with their numbers."""
        times, number = self._shown.times, 0
        frames = video.frames(strict=self._shown.damage is None)
        if self._can_seek and first > 0:
            video.seek(times[first])
            frames = (frame for frame in frames if frame.pts is None or frame.pts >= times[first])
            first_frame = next(frames, None)
            if first_frame is None or first_frame.pts != times[first]:
                return
            yield first, first_frame
            number = first + 1
        yield from ((i, frame) for i, frame in enumerate(frames, number) if i >= first)

    def close(self) -> None:
        self._pictures = None
        self._open_file.close()
