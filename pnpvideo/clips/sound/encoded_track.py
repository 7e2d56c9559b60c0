"""A track of sound that is decoded and encoded anew on its way into a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

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

from pnpvideo.clips.sound.sound_track import GAP, Track


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
                {"async": "1", "min_hard_comp": str(float(GAP)), "first_pts": str(self._done)},
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
