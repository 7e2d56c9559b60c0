"""One track of sound on its way into a file, and one that is copied bit for bit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction
from typing import cast

from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet

# Containers that can hide what is before the first picture; in others it would delay the pictures.
_HIDING = ("mp4", "mov")
# A gap in the source of more than this (seconds) is filled, so that what follows stays in step.
GAP = Fraction(1, 25)


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
        if missing * packet.time_base < GAP:
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
