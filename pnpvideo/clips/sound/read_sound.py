"""A source's sound -> packets that count time from the first picture of a clip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Self

from av.audio.stream import AudioStream
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition

from pnpvideo.clips.clip import Sound
from pnpvideo.clips.video.list_frames import LONGEST_GAP
from pnpvideo.clips.video.open_video import open_container

_MICROSECONDS = 1_000_000
# Decoders need what comes before, and sound may lie behind its pictures in a file.
_LEAD = Fraction(2)
# Seconds that a track's own clock may go back without being another one.
_JITTER = Fraction(1, 10)


class SoundSource:
    """Some of a source's sound tracks, opened. OSError or InputError where that cannot be.

    tracks: their numbers among the sound tracks, from 0; None: all.
    """

    def __init__(self, sound: Sound, tracks: Sequence[int] | None = None) -> None:
        self._file = open_container(sound.path)
        found = self._file.streams.audio
        self.streams = list(found) if tracks is None else [found[number] for number in tracks]
        wanted = {stream.index for stream in self.streams}
        for stream in self._file.streams:
            if stream.index not in wanted:
                stream.discard = Discard.all
        self._sound = sound
        self._origin = Fraction(self._file.start_time or 0, _MICROSECONDS)
        self._begin = self._origin + sound.start

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def likeliest(self) -> list[int]:
        """The numbers of the tracks, those first that the file marks as its default."""
        flagged = [bool(stream.disposition & Disposition.default) for stream in self.streams]
        return sorted(range(len(self.streams)), key=lambda number: not flagged[number])

    def packets(self) -> Iterator[Packet[AudioStream]]:
        """All that is heard from a little before the first picture to the end of the clip."""
        unfinished = {stream.index for stream in self.streams}
        ends = dict.fromkeys(unfinished, 0)
        for packet in self._one_clock(self._from_the_start()):
            if packet.pts is None:  # Such as AVI's: it follows the one before.
                packet.pts = ends[packet.stream_index]
            else:
                packet.pts -= round(self._begin / packet.time_base)
            packet.dts = packet.pts  # Sound is decoded in the order of hearing.
            ends[packet.stream_index] = packet.pts + (packet.duration or 0)
            if packet.pts * packet.time_base >= self._sound.duration:
                unfinished.discard(packet.stream_index)
                if not unfinished:
                    return
            yield packet

    def _one_clock(self, packets: Iterator[Packet[AudioStream]]) -> Iterator[Packet[AudioStream]]:
        """The packets of all parts of a joined file by the clock of the first, in step with it."""
        joins = self._sound.joins
        parts: defaultdict[int, int] = defaultdict(int)
        ends: defaultdict[int, int] = defaultdict(int)
        before: dict[int, Fraction] = {}
        for packet in packets:
            if not joins or packet.pts is None:
                yield packet
                continue
            track, time = packet.stream_index, packet.pts * packet.time_base
            if not -_JITTER < time - before.get(track, time) < LONGEST_GAP:
                parts[track] += 1
            before[track] = time
            if parts[track]:
                packet.pts += round(joins[min(parts[track], len(joins)) - 1] / packet.time_base)
                if packet.pts < ends[track]:  # The sound of the part before is longer than it.
                    continue
            ends[track] = packet.pts + (packet.duration or 0)
            yield packet

    def _from_the_start(self) -> Iterator[Packet[AudioStream]]:
        """The packets, by the file's own clock, those long before the first picture left out."""
        seeks = self._sound.start > 2 * _LEAD and not self._sound.joins
        if seeks:
            try:
                self._file.seek(round((self._begin - _LEAD) * _MICROSECONDS))
            except FFmpegError:
                seeks = False
        packets = self._demux()
        first = next(packets, None)
        late = first is None or first.pts is None or first.pts * first.time_base > self._begin
        if seeks and late:  # It landed behind the place, or nobody knows where.
            self._file.seek(round(self._origin * _MICROSECONDS))
            packets = self._demux()
            first = next(packets, None)
        if first is not None:
            yield first
            yield from packets

    def _demux(self) -> Iterator[Packet[AudioStream]]:
        # The last packet of each track is empty: it only says that there are no more.
        return (packet for packet in self._file.demux(tuple(self.streams)) if packet.size)
