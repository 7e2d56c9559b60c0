"""A source's sound as packets whose times count from the first picture of a clip."""

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
# Decoders need the preceding packets, and sound may lie behind its pictures in a file.
_LEAD = Fraction(2)
# Seconds by which a track's clock may go back without counting as another clock.
_JITTER = Fraction(1, 10)


class SoundSource:
    """Opened sound tracks of a source. Raises OSError or InputError if they cannot be opened.

    tracks: their numbers among the sound tracks, from 0; None for all.
    """

    def __init__(self, sound: Sound, tracks: Sequence[int] | None = None) -> None:
        self._file = open_container(sound.path)
        audio = self._file.streams.audio
        self.streams = list(audio) if tracks is None else [audio[number] for number in tracks]
        chosen_indices = {stream.index for stream in self.streams}
        for stream in self._file.streams:
            if stream.index not in chosen_indices:
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

    def default_first(self) -> list[int]:
        """Return the track numbers, those that the file marks as default first."""
        flagged = [bool(stream.disposition & Disposition.default) for stream in self.streams]
        return sorted(range(len(self.streams)), key=lambda number: not flagged[number])

    def packets(self) -> Iterator[Packet[AudioStream]]:
        """Yield the packets from shortly before the first picture to the end of the clip."""
        unfinished = {stream.index for stream in self.streams}
        ends = dict.fromkeys(unfinished, 0)
        for packet in self._one_clock(self._from_the_start()):
            if packet.pts is None:  # As in AVI: it follows the previous packet.
                packet.pts = ends[packet.stream_index]
            else:
                packet.pts -= round(self._begin / packet.time_base)
            packet.dts = packet.pts  # Sound is decoded in the order in which it is played.
            ends[packet.stream_index] = packet.pts + (packet.duration or 0)
            if packet.pts * packet.time_base >= self._sound.duration:
                unfinished.discard(packet.stream_index)
                if not unfinished:
                    return
            yield packet

    def _one_clock(self, packets: Iterator[Packet[AudioStream]]) -> Iterator[Packet[AudioStream]]:
        """Yield the packets of all parts of a joined file by the clock of the first part."""
        joins = self._sound.joins
        parts: defaultdict[int, int] = defaultdict(int)
        ends: defaultdict[int, int] = defaultdict(int)
        previous: dict[int, Fraction] = {}
        for packet in packets:
            if not joins or packet.pts is None:
                yield packet
                continue
            track, time = packet.stream_index, packet.pts * packet.time_base
            if not -_JITTER < time - previous.get(track, time) < LONGEST_GAP:
                parts[track] += 1
            previous[track] = time
            if parts[track]:
                packet.pts += round(joins[min(parts[track], len(joins)) - 1] / packet.time_base)
                if (
                    packet.pts < ends[track]
                ):  # The previous part's sound is longer than its pictures.
                    continue
            ends[track] = packet.pts + (packet.duration or 0)
            yield packet

    def _from_the_start(self) -> Iterator[Packet[AudioStream]]:
        """Yield the packets by the file's clock, without those long before the first picture."""
        seeks = self._sound.start > 2 * _LEAD and not self._sound.joins
        if seeks:
            try:
                self._file.seek(round((self._begin - _LEAD) * _MICROSECONDS))
            except FFmpegError:
                seeks = False
        packets = self._demux()
        first = next(packets, None)
        late = first is None or first.pts is None or first.pts * first.time_base > self._begin
        if seeks and late:  # The seek went too far, or to an unknown time.
            self._file.seek(round(self._origin * _MICROSECONDS))
            packets = self._demux()
            first = next(packets, None)
        if first is not None:
            yield first
            yield from packets

    def _demux(self) -> Iterator[Packet[AudioStream]]:
        # The last packet of each track is empty and only marks the end.
        return (packet for packet in self._file.demux(tuple(self.streams)) if packet.size)
