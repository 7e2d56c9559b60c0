"""Writing of a source's sound: the choice of tracks, and how to write each."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import islice
from operator import itemgetter

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet

from pnpvideo.clips.clip import Sound
from pnpvideo.clips.sound.encoded_track import EncodedTrack
from pnpvideo.clips.sound.read_sound import SoundSource
from pnpvideo.clips.sound.sound_track import CopiedTrack, Track
from pnpvideo.errors import InputError
from pnpvideo.options.values import Tracks

# Codecs that a container takes unchanged and that players support; Matroska takes all that
# FFmpeg writes into it. All others are re-encoded.
_ISO_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac"})
_COPIED_SOUND = {
    "mp4": _ISO_SOUND,
    "mov": _ISO_SOUND
    | {f"pcm_{kind}" for kind in ("s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le")},
    "webm": frozenset({"opus", "vorbis"}),
}
# Packets to try, to see whether a track can be decoded and written: a second of most codecs.
_PACKETS_TO_TRY = 50

_log = logging.getLogger(__name__)


class SoundWriter:
    """A writer of a source's sound. Errors in the sound are logged and do not affect the pictures.

    Errors of the output disk are raised as for the pictures.
    """

    def __init__(
        self, file: OutputContainer, container: str, sound: Sound | None, tracks: Tracks
    ) -> None:
        self._file = file
        self._source: SoundSource | None = None
        self._tracks: dict[int, Track] = {}
        self._next: Packet[AudioStream] | None = None
        if sound is None:
            return
        self._path = sound.path
        try:
            chosen = choose_tracks(container, sound, every=tracks == "all")
            if not chosen:
                return
            self._source = SoundSource(sound, [number for number, _ in chosen])
            for stream, (_, track_type) in zip(self._source.streams, chosen, strict=True):
                self._tracks[stream.index] = track_type(file, stream, sound.duration)
            self._packets = self._source.packets()
            self._next = next(self._packets, None)
        except (FFmpegError, OSError, InputError) as error:
            reason = str(error) if isinstance(error, InputError) else error.strerror
            _log.warning("the sound of %s is left out: %s", self._path, reason)
        for track in self._tracks.values():
            if isinstance(track, EncodedTrack) and track.mixed_down is not None:
                _log.warning(
                    "the sound of %s is mixed down from %s to %s, the closest layout that %s has",
                    *(self._path, *track.mixed_down, container),
                )

    def write_until(self, seconds: Fraction | None) -> None:
        """Write the packets before this time, counted from the first picture; None for all."""
        while self._next is not None:
            packet = self._next
            assert packet.pts is not None
            if seconds is not None and packet.pts * packet.time_base >= seconds:
                return
            _mux(self._file, self._unless_broken(partial(self._take, packet)))

    def finish(self) -> None:
        """Write the rest."""
        self.write_until(None)
        for track in self._tracks.values():
            _mux(self._file, self._unless_broken(track.flush))

    def close(self) -> None:
        if self._source is not None:
            self._source.close()

    def _take(self, packet: Packet[AudioStream]) -> list[Packet[AudioStream]]:
        ready = self._tracks[packet.stream_index].take(packet)
        self._next = next(self._packets, None)
        return ready

    def _unless_broken(
        self, make: Callable[[], list[Packet[AudioStream]]]
    ) -> list[Packet[AudioStream]]:
        try:
            return make()
        except (FFmpegError, ValueError) as error:
            _log.warning("the sound of %s ends early: %s", self._path, error)
            self._next = None
            return []


def _mux(file: OutputContainer, packets: list[Packet[AudioStream]]) -> None:
    for packet in packets:
        try:
            file.mux(packet)
        except FFmpegError as error:
            if isinstance(error, OSError):
                raise
            # The container rejects a damaged packet.


def choose_tracks(container: str, sound: Sound, *, every: bool) -> list[tuple[int, type[Track]]]:
    """Return the numbers of the sound tracks to write, and how; raises as `SoundSource` does.

    every: all tracks that can be decoded, not only the default. Skipped tracks are logged.
    """
    with SoundSource(sound) as source:
        codecs = [stream.codec_context and _codec(stream) for stream in source.streams]
        numbers = source.default_first()
    chosen: dict[int, type[Track]] = {}
    refused = []
    for number in numbers:
        can_copy = container not in _COPIED_SOUND or codecs[number] in _COPIED_SOUND[container]
        for track_type in (CopiedTrack, EncodedTrack) if can_copy else (EncodedTrack,):
            if codecs[number] is not None and _works(track_type, container, sound, number):
                chosen[number] = track_type
                break
        else:
            refused.append(f"{number + 1} ({codecs[number] or 'of an unknown codec'})")
        if chosen and not every:
            break
    if refused:
        consequence = f"track {min(chosen) + 1} is used" if chosen else "the result has no sound"
        _log.warning(
            "track %s of the sound of %s cannot be decoded: %s",
            *(", ".join(refused), sound.path, consequence),
        )
    return sorted(chosen.items(), key=itemgetter(0))


def _codec(stream: AudioStream) -> str:
    return stream.codec_context.codec.canonical_name


def _works(track_type: type[Track], container: str, sound: Sound, number: int) -> bool:
    """Return whether the beginning of a track can be decoded and written with this class."""
    try:
        with (
            SoundSource(sound, [number]) as source,
            av.open(io.BytesIO(), "w", format=container) as file,
        ):
            track = track_type(file, source.streams[0], sound.duration)
            file.start_encoding()  # Here a container refuses a rate that it does not take.
            packet_count = 0
            for packet in islice(source.packets(), _PACKETS_TO_TRY):
                packet_count += 1
                _mux(file, track.take(packet))
            _mux(file, track.flush())
    except (FFmpegError, ValueError):
        return False
    return track.heard or not packet_count
