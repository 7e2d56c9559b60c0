"""A source's sound beside the pictures of a file: which tracks, and how each is written."""

from __future__ import annotations

import contextlib
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
from av.error import ArgumentError, FFmpegError, InvalidDataError
from av.packet import Packet

from pnpvideo.clips.clip import Sound
from pnpvideo.clips.sound.encoded_track import EncodedTrack
from pnpvideo.clips.sound.read_sound import SoundSource
from pnpvideo.clips.sound.sound_track import CopiedTrack, Track
from pnpvideo.errors import InputError
from pnpvideo.options.values import Tracks

# Codecs that go into a container as they are, and play there; Matroska takes and plays all that
# FFmpeg writes into it. All others are encoded anew.
_ISO_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac"})
_COPIED_SOUND = {
    "mp4": _ISO_SOUND,
    "mov": _ISO_SOUND
    | {f"pcm_{kind}" for kind in ("s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le")},
    "webm": frozenset({"opus", "vorbis"}),
}
# Packets that tell whether a track can be decoded and written: a second of most codecs.
_TRIED = 50

_log = logging.getLogger(__name__)


class SoundWriter:
    """Writes a source's sound beside pictures. Trouble with it is told, and costs no picture.

    Errors of the disk that is written to are raised as those of the pictures are.
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
            for stream, (_, kind) in zip(self._source.streams, chosen, strict=True):
                self._tracks[stream.index] = kind(file, stream, sound.duration)
            self._packets = self._source.packets()
            self._next = next(self._packets, None)
        except (FFmpegError, OSError, InputError) as error:
            reason = str(error) if isinstance(error, InputError) else error.strerror
            _log.warning("the sound of %s is left out: %s", self._path, reason)
        for track in self._tracks.values():
            if isinstance(track, EncodedTrack) and track.mixed_down is not None:
                _log.warning(
                    "the sound of %s is mixed down from %s to %s, the nearest that %s has",
                    *(self._path, *track.mixed_down, container),
                )

    def write_until(self, seconds: Fraction | None) -> None:
        """Write what begins before this time, counted from the first picture; all where None."""
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
            _log.warning("the sound of %s breaks off: %s", self._path, error)
            self._next = None
            return []


def _mux(file: OutputContainer, packets: list[Packet[AudioStream]]) -> None:
    for packet in packets:
        # A damaged moment may be one that the container does not take.
        with contextlib.suppress(InvalidDataError, ArgumentError):
            file.mux(packet)


def choose_tracks(container: str, sound: Sound, *, every: bool) -> list[tuple[int, type[Track]]]:
    """The numbers of the sound tracks to write, and how; errors as `SoundSource` has.

    every: all that can be decoded, not only the default one. What is passed over is told.
    """
    with SoundSource(sound) as source:
        codecs = [stream.codec_context and _codec(stream) for stream in source.streams]
        likeliest = source.likeliest()
    chosen: dict[int, type[Track]] = {}
    refused = []
    for number in likeliest:
        copies = container not in _COPIED_SOUND or codecs[number] in _COPIED_SOUND[container]
        for kind in (CopiedTrack, EncodedTrack) if copies else (EncodedTrack,):
            if codecs[number] is not None and _works(kind, container, sound, number):
                chosen[number] = kind
                break
        else:
            refused.append(f"{number + 1} ({codecs[number] or 'of an unknown codec'})")
        if chosen and not every:
            break
    if refused:
        taken = f"track {min(chosen) + 1} is taken" if chosen else "the result has no sound"
        _log.warning(
            "track %s of the sound of %s cannot be decoded: %s",
            *(", ".join(refused), sound.path, taken),
        )
    return sorted(chosen.items(), key=itemgetter(0))


def _codec(stream: AudioStream) -> str:
    return stream.codec_context.codec.canonical_name


def _works(kind: type[Track], container: str, sound: Sound, number: int) -> bool:
    """Whether the beginning of a track can be decoded and written in this way."""
    try:
        with (
            SoundSource(sound, [number]) as source,
            av.open(io.BytesIO(), "w", format=container) as file,
        ):
            track = kind(file, source.streams[0], sound.duration)
            tried = 0
            for packet in islice(source.packets(), _TRIED):
                tried += 1
                _mux(file, track.take(packet))
            _mux(file, track.flush())
    except (FFmpegError, ValueError):
        return False
    return track.heard or not tried
