"""A sound track that is written to a file, and the kind that is copied bit for bit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction
from typing import cast

from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet

# Containers that can hide sound before the first picture; in others it would delay the pictures.
_HIDING = ("mp4", "mov")
# These hide as much as the codec needs before its first sample, which their headers state.
_DELAYING = ("matroska", "webm")
# A longer gap than this (seconds) in the source is filled, so that later sound stays in step.
GAP = Fraction(1, 25)
# At a gap that is still longer than this (seconds) the sound ends: a damaged or crafted file can
# state times that are days apart, and all that silence would have to be encoded.
_LONGEST_GAP = 3600
# Silence is made in pieces of this length (seconds).
LONGEST_SILENCE = 10


class GapError(ValueError):
    """A gap at which the sound ends; the message says how long it is."""


def check_gap(seconds: Fraction) -> None:
    """Raise GapError if a gap is too long to be filled with silence."""
    if seconds > _LONGEST_GAP:
        raise GapError(f"it has a gap of {float(seconds) / 3600:.1f} hours")


class Track(ABC):
    """A sound track of an output file.

    heard: whether any of it could be decoded.
    """

    heard = False

    def __init__(self, file: OutputContainer, source: AudioStream, duration: Fraction) -> None:
        """Take `duration`: seconds from the first picture to the end."""
        self._file = file
        self._source = source
        self._duration = duration

    @abstractmethod
    def take(self, packet: Packet[AudioStream]) -> list[Packet[AudioStream]]:
        """Return the packets to write for the source's next packet."""

    @abstractmethod
    def flush(self) -> list[Packet[AudioStream]]:
        """Return the packets that are left to write at the end."""

    def _decode(self, packet: Packet[AudioStream] | None) -> list[AudioFrame]:
        try:
            frames = self._source.codec_context.decode(packet)
        except FFmpegError:
            return []  # A damaged packet becomes silence.
        self.heard = self.heard or bool(frames)
        return frames

    def _with_source_names(self, stream: AudioStream) -> AudioStream:
        """Give a stream the source's name, language and disposition, and return it."""
        stream.disposition = self._source.disposition
        for name in ("language", "title"):
            if name in self._source.metadata:
                stream.metadata[name] = self._source.metadata[name]
        return stream


class CopiedTrack(Track):
    """A copied track. Raises ValueError or FFmpegError if the container does not take it."""

    def __init__(self, file: OutputContainer, source: AudioStream, duration: Fraction) -> None:
        super().__init__(file, source, duration)
        self._stream = self._with_source_names(file.add_stream_from_template(source))
        self._can_hide = file.format.name in _HIDING
        context = source.codec_context
        self._delay = Fraction(0)
        if file.format.name in _DELAYING:
            self._delay = Fraction(context.delay, context.sample_rate)
        self._last_hidden: Packet[AudioStream] | None = None
        self._last_start: Fraction | None = None
        # QuickTime counts uncompressed samples, so a gap must be filled with silence.
        self._needs_silence = (
            self._can_hide and source.codec_context.codec.canonical_name.startswith("pcm_")
        )
        self._end: int | None = None

    def take(self, packet: Packet[AudioStream]) -> list[Packet[AudioStream]]:
        if not self.heard:
            self._decode(packet)
        assert packet.pts is not None
        start, tick = packet.pts * packet.time_base, packet.time_base
        if start >= self._duration or self._goes_back(start, packet):
            return []
        if start + (packet.duration or 0) * tick <= 0:
            # The last packet before the first picture: in most codecs the next overlaps with it.
            self._last_hidden = packet
            return []
        packets = [packet]
        if self._last_hidden is not None and self._hides(self._last_hidden):
            packets = [self._last_hidden, packet]
        elif start < 0 and not self._hides(packet):
            if start < Fraction(-1, 1000):
                return []
            packet.pts = packet.dts = 0
        self._last_hidden, self._last_start = None, start
        if packet.duration:
            # It may extend past the end (by about 20 ms), so its duration is cut.
            remaining = round(self._duration / tick) - packet.pts
            packet.duration = min(packet.duration, max(1, remaining))
        if self._needs_silence:
            packets = self._without_gap(packet)
        for written in packets:
            written.stream = self._stream
        return packets

    def _goes_back(self, start: Fraction, packet: Packet[AudioStream]) -> bool:
        """Return whether a packet does not follow the one before.

        Packets shorter than a tick, as TrueHD has in Matroska, have the same time and no duration.
        """
        if self._last_start is None or start > self._last_start:
            return False
        together = self._file.format.name in _DELAYING and not packet.duration
        return start < self._last_start or not together

    def _hides(self, packet: Packet[AudioStream]) -> bool:
        """Return whether the output can hold a packet that ends before the first picture."""
        assert packet.pts is not None
        # Times are rounded to a tick.
        return self._can_hide or packet.pts + self._delay / packet.time_base + 1 >= 0

    def _without_gap(self, packet: Packet[AudioStream]) -> list[Packet[AudioStream]]:
        """Return a packet of uncompressed samples, after one of silence if samples are missing."""
        assert packet.pts is not None
        assert packet.duration
        missing = 0 if self._end is None else packet.pts - self._end
        self._end = packet.pts + packet.duration
        if missing * packet.time_base < GAP:
            return [packet]
        check_gap(missing * packet.time_base)
        rate = self._source.codec_context.sample_rate
        sample_size = packet.size // round(packet.duration * packet.time_base * rate)
        longest = max(1, round(LONGEST_SILENCE / packet.time_base))
        packets = []
        for start in range(packet.pts - missing, packet.pts, longest):
            duration = min(longest, packet.pts - start)
            size = sample_size * round(duration * packet.time_base * rate)
            silence = cast("Packet[AudioStream]", Packet(bytes(size)))
            silence.pts = silence.dts = start
            silence.duration, silence.time_base = duration, packet.time_base
            packets.append(silence)
        return [*packets, packet]

    def flush(self) -> list[Packet[AudioStream]]:
        return []
