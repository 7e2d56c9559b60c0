"""One track of sound on its way into a file: copied bit for bit, or decoded and encoded anew."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.codec import Codec
from av.container import OutputContainer
from av.error import BlockingIOError as Starved
from av.error import EOFError as Drained
from av.error import FFmpegError
from av.filter import Graph
from av.packet import Packet

# Containers that can hide what is before the first picture; in others it would delay the pictures.
_HIDING = ("mp4", "mov")
# A gap in the source of more than this (seconds) is filled, so that what follows stays in step.
_GAP = Fraction(1, 25)


class Track(ABC):
    """A sound track of a file that is written.

    heard: whether any of it could be decoded.
    """

    heard = False

    def __init__(self, file: OutputContainer, source: AudioStream, duration: Fraction) -> None:
        """duration: seconds from the first picture to the end."""
        self._file = file
        self._source = source
        self._duration = duration

    @abstractmethod
    def take(self, packet: Packet[AudioStream]) -> list[Packet[AudioStream]]:
        """What the source's next packet gives to write."""

    @abstractmethod
    def flush(self) -> list[Packet[AudioStream]]:
        """What is left to write at the end."""

    def _decode(self, packet: Packet[AudioStream] | None) -> list[AudioFrame]:
        try:
            frames = self._source.codec_context.decode(packet)
        except FFmpegError:
            return []  # A damaged moment, which is silent.
        self.heard = self.heard or bool(frames)
        return frames

    def _named(self, stream: AudioStream) -> AudioStream:
        """The track of the file, called as the source calls it."""
        stream.disposition = self._source.disposition
        for name in ("language", "title"):
            if name in self._source.metadata:
                stream.metadata[name] = self._source.metadata[name]
        return stream


class CopiedTrack(Track):
    """Packets as they are. ValueError or FFmpegError where the container does not take them."""

    def __init__(self, file: OutputContainer, source: AudioStream, duration: Fraction) -> None:
        super().__init__(file, source, duration)
        self._stream = self._named(file.add_stream_from_template(source))
        self._hides = file.format.name in _HIDING
        self._before: Packet[AudioStream] | None = None
        self._last: Fraction | None = None
        # QuickTime counts samples where they are not compressed: a gap must be silence.
        self._counts = self._hides and source.codec_context.codec.canonical_name.startswith("pcm_")
        self._end: int | None = None

    def take(self, packet: Packet[AudioStream]) -> list[Packet[AudioStream]]:
        if not self.heard:
            self._decode(packet)
        assert packet.pts is not None
        begin, tick = packet.pts * packet.time_base, packet.time_base
        if begin >= self._duration or (self._last is not None and begin <= self._last):
            return []
        if begin + (packet.duration or 0) * tick <= 0:
            # The last one before the first picture: what follows overlaps with it in most codecs.
            self._before = packet
            return []
        kept = [packet]
        if self._hides and self._before is not None:
            kept = [self._before, packet]
        elif not self._hides and begin < 0:
            if begin < Fraction(-1, 1000):
                return []
            packet.pts = packet.dts = 0
        self._before, self._last = None, begin
        if packet.duration:
            # It may reach over the end (by 20 ms or so): it is told to stop there.
            left = round(self._duration / tick) - packet.pts
            packet.duration = min(packet.duration, max(1, left))
        if self._counts:
            kept = self._without_gap(packet)
        for one in kept:
            one.stream = self._stream
        return kept

    def _without_gap(self, packet: Packet[AudioStream]) -> list[Packet[AudioStream]]:
        """A packet of uncompressed samples, behind one of silence where samples are missing."""
        assert packet.pts is not None
        assert packet.duration
        missing = 0 if self._end is None else packet.pts - self._end
        self._end = packet.pts + packet.duration
        if missing * packet.time_base < _GAP:
            return [packet]
        rate = self._source.codec_context.sample_rate
        samples = round(packet.duration * packet.time_base * rate)
        size = packet.size // samples * round(missing * packet.time_base * rate)
        silence = cast("Packet[AudioStream]", Packet(bytes(size)))
        silence.pts = silence.dts = packet.pts - missing
        silence.duration, silence.time_base = missing, packet.time_base
        return [silence, packet]

    def flush(self) -> list[Packet[AudioStream]]:
        return []


@dataclass(frozen=True, kw_only=True)
class _Encoding:
    """How a container's sound is encoded anew.

    layouts: what its players know, from few channels to many. (Opus has 5.0 and 6.1, too, but what
    FFmpeg encodes of these comes back in another order.)
    """

    codec: str
    sample_format: str
    layouts: tuple[str, ...]


_OPUS = _Encoding(
    codec="libopus",
    sample_format="flt",
    layouts=("mono", "stereo", "3.0", "quad", "5.1", "7.1"),
)
_AAC = _Encoding(
    codec="aac",
    sample_format="fltp",
    layouts=("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1"),
)


class EncodedTrack(Track):
    """Samples decoded and encoded anew, silent from the first picture to the source's first sample.

    mixed_down: the source's layout and ours, where ours has not all of its channels; else None.
    """

    def __init__(self, file: OutputContainer, source: AudioStream, duration: Fraction) -> None:
        super().__init__(file, source, duration)
        encoding = _OPUS if file.format.name == "webm" else _AAC
        layout = _known(source.codec_context.layout)
        self._layout = _choose_layout(layout, encoding.layouts)
        lost = _places(layout) - _places(AudioLayout(self._layout))
        self.mixed_down = (layout.name, self._layout) if lost else None
        rates = Codec(encoding.codec, "w").audio_rates or []
        rate = source.codec_context.sample_rate
        self._rate = rate if rate in rates else 48_000
        self._format = encoding.sample_format
        channels = AudioLayout(self._layout).nb_channels
        stream = file.add_stream(
            encoding.codec,
            rate=self._rate,
            layout=self._layout,
            format=self._format,
            bit_rate=max(160_000, 64_000 * channels),
        )
        assert isinstance(stream, AudioStream)
        self._stream = self._named(stream)
        self._graph: Graph | None = None
        self._taken: tuple[str, str, int] | None = None
        self._done = 0
        self._next = 0

    def take(self, packet: Packet[AudioStream]) -> list[Packet[AudioStream]]:
        return self._encode(self._decode(packet))

    def flush(self) -> list[Packet[AudioStream]]:
        left = self._encode(self._decode(None))
        return [*left, *self._drain(), *self._stream.encode(None)]

    def _encode(self, frames: list[AudioFrame]) -> list[Packet[AudioStream]]:
        packets = []
        for frame in frames:
            begin = self._begin_of(frame)
            self._next = begin + frame.samples
            if begin + frame.samples <= 0:
                continue
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if kind != self._taken:  # At the first, and where a broadcast changes.
                packets += self._drain()
                self._graph, self._taken = self._make_graph(*kind), kind
            assert self._graph is not None
            frame.pts, frame.time_base = begin, Fraction(1, frame.sample_rate)
            self._graph.push(frame)
            packets += self._pull()
        return packets

    def _begin_of(self, frame: AudioFrame) -> int:
        """The sample at which a frame begins: behind the one before, where nothing tells it.

        What Windows Media's decoder holds back to the end has no time.
        """
        if frame.pts is None or frame.time_base is None:
            return self._next
        return round(frame.pts * frame.time_base * frame.sample_rate)

    def _drain(self) -> list[Packet[AudioStream]]:
        if self._graph is None:
            return []
        self._graph.push(None)
        return self._pull()

    def _pull(self) -> list[Packet[AudioStream]]:
        packets = []
        for frame in _pulled(self._graph):
            self._done += frame.samples
            packets += self._stream.encode(frame)
        return packets

    def _make_graph(self, sample_format: str, layout: str, rate: int) -> Graph:
        """To our layout, format and rate, with silence where samples are missing, to the end."""
        try:
            return self._linked(sample_format, layout, rate)
        except FFmpegError:  # Nobody knows where these channels are to be heard.
            count = AudioLayout(layout).nb_channels
            mean = "+".join(f"{1 / count}*c{i}" for i in range(count))
            # The first channel of ambisonic sound is what is heard from all sides.
            mono = "c0" if layout.startswith("ambisonic") else mean
            return self._linked(sample_format, layout, rate, pan=f"mono|c0={mono}")

    def _linked(self, sample_format: str, layout: str, rate: int, pan: str | None = None) -> Graph:
        graph = Graph()
        filters = [
            graph.add(
                "abuffer",
                **{"sample_rate": str(rate), "sample_fmt": sample_format},
                **{"channel_layout": layout, "time_base": f"1/{rate}"},
            )
        ]
        if pan is not None:
            filters.append(graph.add("pan", pan))
        for name, options in (
            # A gap or an overlap is mended where it could be noticed; pts begin where we are.
            (
                "aresample",
                {"async": "1", "min_hard_comp": str(float(_GAP)), "first_pts": str(self._done)},
            ),
            ("aformat", {"sample_fmts": self._format, "channel_layouts": self._layout}),
            ("atrim", {"end_pts": str(round(self._duration * self._rate))}),
            ("abuffersink", {}),
        ):
            if name == "aresample":
                options |= {"sample_rate": str(self._rate)}
            filters.append(graph.add(name, **options))
        graph.link_nodes(*filters).configure()
        return graph


def _pulled(graph: Graph | None) -> Iterator[AudioFrame]:
    """What a graph has ready."""
    while graph is not None:
        try:
            frame = graph.pull()
        except (Starved, Drained):
            return
        assert isinstance(frame, AudioFrame)
        yield frame


def _known(layout: AudioLayout) -> AudioLayout:
    """A layout with places, where a file gives but a number of channels: the usual one."""
    try:
        return AudioLayout(f"{layout.nb_channels}c") if "channels" in layout.name else layout
    except ValueError:
        return layout


def _places(layout: AudioLayout) -> set[str]:
    """Where a layout is heard. At the sides is behind, where a layout has nothing behind."""
    names = {channel.name for channel in layout.channels}
    alike = {"DL": "FL", "DR": "FR"}  # Mixed down before.
    if not names & {"BL", "BR"}:
        alike |= {"SL": "BL", "SR": "BR"}
    return {alike.get(name, name) for name in names}


def _choose_layout(layout: AudioLayout, taken: tuple[str, ...]) -> str:
    """The smallest of the layouts that holds all of a source's channels, or the largest."""
    wanted = _places(layout)
    if not wanted & {"FL", "FC"}:  # Nobody knows where it is to be heard.
        return "stereo"
    return next((one for one in taken if wanted <= _places(AudioLayout(one))), taken[-1])
