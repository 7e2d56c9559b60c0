"""A sound track that is decoded and re-encoded."""

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

from pnpvideo.clips.sound.sound_track import GAP, LONGEST_SILENCE, Track, check_gap


@dataclass(frozen=True, kw_only=True)
class _Encoding:
    """The codec settings for a container's re-encoded sound.

    layouts: those that players support, from few channels to many. (Opus also has 5.0 and 6.1, but
    FFmpeg returns their channels in another order after encoding.)
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
    """A re-encoded track, silent from the first picture to the source's first sample.

    mixed_down: the layouts of the source and of the result, if the result has fewer channels;
    otherwise None.
    """

    def __init__(self, file: OutputContainer, source: AudioStream, duration: Fraction) -> None:
        super().__init__(file, source, duration)
        encoding = _OPUS if file.format.name == "webm" else _AAC
        layout = _with_positions(source.codec_context.layout)
        self._layout = _choose_layout(layout, encoding.layouts)
        lost = _positions(layout) - _positions(AudioLayout(self._layout))
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
        self._stream = self._with_source_names(stream)
        self._graph: Graph | None = None
        self._input_kind: tuple[str, str, int] | None = None
        self._samples_done = 0
        self._next = 0

    def take(self, packet: Packet[AudioStream]) -> list[Packet[AudioStream]]:
        return self._encode(self._decode(packet))

    def flush(self) -> list[Packet[AudioStream]]:
        packets = self._encode(self._decode(None))
        return [*packets, *self._drain(), *self._stream.encode(None)]

    def _encode(self, frames: list[AudioFrame]) -> list[Packet[AudioStream]]:
        packets = []
        for frame in frames:
            start = self._start_of(frame)
            if start + frame.samples <= 0:
                self._next = start + frame.samples
                continue
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if kind != self._input_kind:  # For the first frame, and whenever a broadcast changes.
                packets += self._drain()
                self._graph, self._input_kind = self._make_graph(*kind), kind
            packets += self._fill_long_gap(frame, start)
            # What comes soon after the end shows that there is silence until then.
            if start <= (self._duration + LONGEST_SILENCE) * frame.sample_rate:
                packets += self._push(frame, start)
            self._next = start + frame.samples
        return packets

    def _push(self, frame: AudioFrame, start: int) -> list[Packet[AudioStream]]:
        assert self._graph is not None
        frame.pts, frame.time_base = start, Fraction(1, frame.sample_rate)
        self._graph.push(frame)
        return self._pull()

    def _fill_long_gap(self, frame: AudioFrame, start: int) -> list[Packet[AudioStream]]:
        """Put silence before a frame in pieces: the graph would hold all of a long gap at once."""
        rate = frame.sample_rate
        begin, stop = max(self._next, 0), min(start, round(self._duration * rate))
        if stop - begin <= LONGEST_SILENCE * rate:
            return []
        check_gap(Fraction(stop - begin, rate))
        packets = []
        for at in range(begin, stop, rate):
            silence = AudioFrame(frame.format.name, frame.layout, min(rate, stop - at))
            silence.sample_rate = rate
            zero = b"\x80" if frame.format.name in ("u8", "u8p") else b"\0"
            for plane in silence.planes:
                plane.update(zero * plane.buffer_size)
            packets += self._push(silence, at)
        return packets

    def _start_of(self, frame: AudioFrame) -> int:
        """Return a frame's first sample; if the frame has no time, the end of the previous one.

        Frames that the Windows Media decoder holds back until the end have no time.
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
        for frame in _ready_frames(self._graph):
            self._samples_done += frame.samples
            packets += self._stream.encode(frame)
        return packets

    def _make_graph(self, sample_format: str, layout: str, rate: int) -> Graph:
        """Return a graph that converts to the output format and fills gaps with silence."""
        try:
            return self._build_graph(sample_format, layout, rate)
        except FFmpegError:  # These channels have no known positions.
            count = AudioLayout(layout).nb_channels
            mean = "+".join(f"{1 / count}*c{i}" for i in range(count))
            # The first channel of ambisonic sound is the sound from all directions.
            mono = "c0" if layout.startswith("ambisonic") else mean
            return self._build_graph(sample_format, layout, rate, pan=f"mono|c0={mono}")

    def _build_graph(
        self, sample_format: str, layout: str, rate: int, pan: str | None = None
    ) -> Graph:
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
            # Repair audible gaps and overlaps; pts start at the samples already written.
            (
                "aresample",
                {
                    "async": "1",
                    "min_hard_comp": str(float(GAP)),
                    "first_pts": str(self._samples_done),
                },
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


def _ready_frames(graph: Graph | None) -> Iterator[AudioFrame]:
    """Yield the frames that a graph has ready."""
    while graph is not None:
        try:
            frame = graph.pull()
        except (Starved, Drained):
            return
        assert isinstance(frame, AudioFrame)
        yield frame


def _with_positions(layout: AudioLayout) -> AudioLayout:
    """Return the usual layout for a file that states only a number of channels."""
    try:
        return AudioLayout(f"{layout.nb_channels}c") if "channels" in layout.name else layout
    except ValueError:
        return layout


def _positions(layout: AudioLayout) -> set[str]:
    """Return the positions of a layout's channels; side counts as back if it has no back."""
    names = {channel.name for channel in layout.channels}
    equivalent = {"DL": "FL", "DR": "FR"}  # Already mixed down to stereo.
    if not names & {"BL", "BR"}:
        equivalent |= {"SL": "BL", "SR": "BR"}
    return {equivalent.get(name, name) for name in names}


def _choose_layout(layout: AudioLayout, supported: tuple[str, ...]) -> str:
    """Return the smallest layout that holds all of the source's channels, or the largest."""
    source_positions = _positions(layout)
    if not source_positions & {"FL", "FC"}:  # The positions of its channels are unknown.
        return "stereo"
    return next(
        (name for name in supported if source_positions <= _positions(AudioLayout(name))),
        supported[-1],
    )
