"""Encoding of pictures to packets of a video file: the container's codec, and each frame's time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from pathlib import Path

import cv2
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from av.error import FFmpegError
from av.filter import Graph
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pnpvideo.clips.clip import Colour, Timing
from pnpvideo.errors import InputError

_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_AVX_512F = 13  # One of OpenCV's CpuFeatures, which have no names in Python.


class Clock:
    """The times of the written frames.

    base: the file's unit of time in seconds; every time is a multiple of it if possible.
    varies: whether frames are shown for different durations.
    """

    def __init__(self, timing: Timing, *, gif: bool) -> None:
        self.rate = timing.frame_rate
        self.varies = timing.times is not None
        self.base = 1 / timing.frame_rate
        self._start_of = timing.start_of
        self._shortest = 1
        if gif:
            # GIF counts in 1/100 s, and viewers slow frames of less than 2/100 s down to 10/100 s.
            self.base = Fraction(1, 100)
            self._shortest = 2
        elif timing.times is not None:
            end = len(timing.times) / timing.frame_rate
            # The nominal frame rate must fit FFmpeg's 32 bits.
            self.rate = min(self.rate, Fraction(10_000)).limit_denominator(100_000)
            units = lcm(*(time.denominator for time in (*timing.times, end)))
            # All containers allow up to a million units per second; 90000 is customary.
            self.base = Fraction(1, units if units <= 1_000_000 else 90_000)
        self._next = 0

    def next(self, number: int) -> tuple[int, int]:
        """Return a frame's time and duration in units of base. Call it for the frames in order."""
        time = self._next
        self._next = max(round(self._start_of(number + 1) / self.base), time + self._shortest)
        return time, self._next - time


@dataclass(frozen=True, kw_only=True)
class _Encoding:
    """The codec settings for a container's pictures. even: whether sizes must be even."""

    codec: str
    pixel_format: str
    even: bool = False
    options: dict[str, str] = field(default_factory=dict)


def _choose_encoding(container: str, *, alpha: bool, quality: int, varies: bool) -> _Encoding:
    if container == "gif":
        return _Encoding(codec="gif", pixel_format="pal8")
    if container == "webm":
        # Quality 80 is CRF 24 of 63, 100 is 16. Without the other options it is 10 times slower.
        options = {"crf": f"{58 - 0.42 * quality:.0f}"}
        options |= {"deadline": "good", "cpu-used": "4", "row-mt": "1"}
        if not alpha:
            return _Encoding(codec="libvpx-vp9", pixel_format="yuv420p", options=options)
        options["auto-alt-ref"] = "0"  # libvpx has no alt-ref frames with alpha.
        return _Encoding(codec="libvpx-vp9", pixel_format="yuva420p", options=options)
    if alpha:
        # The format that editors exchange: 10 bits, no subsampling, lossless alpha.
        options = {"profile": "4444", "alpha_bits": "16", "vendor": "apl0"}
        return _Encoding(codec="prores_ks", pixel_format="yuva444p10le", options=options)
    # Quality 80 is CRF 18 of 51 (hard to distinguish from the source), 100 is 11.
    options = {"preset": "medium", "crf": f"{46 - 0.35 * quality:.1f}"}
    if cv2.checkHardwareSupport(_AVX_512F):
        # x264's AVX-512 code reads uninitialised memory (macroblock trees, with B-frames): the same
        # frames would give a different file each time.
        options["x264-params"] = "asm=avx2"
    if varies:
        # MP4 stores durations in decoding order; with B-frames the last duration would be lost.
        options["bf"] = "0"
    return _Encoding(codec="libx264", pixel_format="yuv420p", even=True, options=options)


class PictureEncoder:
    """The picture track of a file, for uint8 frames of one shape (height, width, 3 or 4).

    H.264's 4:2:0 needs even sizes, so the last column or row of an odd size is repeated: no pixel
    is lost or resampled, and all players show it. Other codecs take odd sizes.
    """

    def __init__(
        self,
        file: OutputContainer,
        container: str,
        shape: tuple[int, ...],
        clock: Clock,
        colour: Colour,
        quality: int,
        output: Path,
    ) -> None:
        height, width, channels = shape
        coding = _choose_encoding(
            container, alpha=channels == 4, quality=quality, varies=clock.varies
        )
        self._format = coding.pixel_format
        self._rgb = "rgba" if channels == 4 else "rgb24"
        pad_width, pad_height = (width % 2, height % 2) if coding.even else (0, 0)
        self._padding = ((0, pad_height), (0, pad_width), (0, 0))
        self._clock = clock
        stream = file.add_stream(coding.codec, rate=clock.rate, time_base=clock.base)
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.width, context.height = width + pad_width, height + pad_height
        context.pix_fmt = coding.pixel_format
        context.thread_type = "AUTO"
        context.flags |= Flags.frame_duration
        self._palette: Graph | None = None
        if container == "gif":
            self._palette = _palette_graph(width, height, clock.base)
        else:
            context.options = coding.options
            _tag(context, colour)
        try:
            context.open()
        except FFmpegError as error:
            raise InputError(
                f"{output} cannot hold pictures of {width}x{height} pixels "
                f"({coding.codec}: {error.strerror}); give another format or a folder of frames"
            ) from None
        self._stream = stream
        self._reformatter = VideoReformatter()

    def encode(self, frame: NDArray[np.uint8], number: int) -> list[Packet[VideoStream]]:
        """Return the packets to write for the next frame, counted from 0; there may be none."""
        if self._padding != ((0, 0), (0, 0), (0, 0)):
            frame = np.pad(frame, self._padding, mode="edge")
        picture = VideoFrame.from_ndarray(np.ascontiguousarray(frame), self._rgb)
        picture.pts, picture.duration = self._clock.next(number)
        picture.time_base = self._clock.base
        if self._palette is None:
            # Without a matrix, FFmpeg uses BT.601 and players assume BT.709: colours would shift.
            picture = self._reformatter.reformat(
                picture,
                format=self._format,
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=_EXACT,
            )
            # ProRes stores the colours with each frame.
            picture.color_primaries = self._stream.codec_context.color_primaries
            picture.color_trc = self._stream.codec_context.color_trc
        else:
            self._palette.vpush(picture)
            picture = self._palette.vpull()
        return self._stream.encode(picture)

    def flush(self) -> Iterator[Packet[VideoStream]]:
        """Yield the packets left at the end, one by one, so that Ctrl-C need not wait for all."""
        return self._stream.encode_lazy(None)


def _tag(context: VideoCodecContext, colour: Colour) -> None:
    """Write colour tags for players: the output's matrix and range, the source's other values."""
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries = _colour_code(ColorPrimaries, colour.primaries)
    context.color_trc = _colour_code(ColorTrc, colour.transfer)


def _colour_code(colour_names: type[ColorPrimaries] | type[ColorTrc], name: str) -> int:
    try:
        return colour_names[name.upper().replace("-", "_")]
    except KeyError:
        known_names = ", ".join(item.name.lower().replace("_", "-") for item in colour_names)
        raise InputError(
            f"{name!r} is not a colour name that videos use; give one of {known_names}"
        ) from None


def _palette_graph(width: int, height: int, base: Fraction) -> Graph:
    """Return a graph with a palette for each frame; a shared one would need all frames at once."""
    graph = Graph()
    shape = {"video_size": f"{width}x{height}", "pix_fmt": "rgb24", "time_base": str(base)}
    source, split = graph.add("buffer", **shape), graph.add("split")
    palette, use = graph.add("palettegen", stats_mode="single"), graph.add("paletteuse", new="1")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(graph.add("buffersink"))
    graph.configure()
    return graph
