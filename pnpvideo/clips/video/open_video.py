"""Decoding of a video file's first picture stream with PyAV, and capture of FFmpeg's messages."""

import contextlib
import re
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import av
import av.logging
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pnpvideo.clips.refusals import check_pixels
from pnpvideo.clips.video.main_stream import main_stream
from pnpvideo.errors import InputError
from pnpvideo.options.values import DEFAULT_MAX_PIXELS

# The containers that are opened. Others would turn text into video or follow links in playlists.
_CONTAINERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,ivf,dv,rm,wtv,gxf,h264,hevc,av1,obu"
    ",m4v,mjpeg,yuv4mpegpipe,gif,swf,mp3,wav,flac,aac,ac3,aiff,amr,caf,w64"
)

# FFmpeg's own decoders drop the alpha of these two.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}

_UNREADABLE = "a frame cannot be decoded"
"""The reason in place of FFmpeg's own, which is for programmers."""

_log_level = threading.RLock()


VideoPacket: TypeAlias = "Packet[VideoStream] | None"

_GENPTS = 0x1  # AVFMT_FLAG_GENPTS, which PyAV sets.


class DamageError(Exception):
    """Damage in a video; the message says why no further frame can be read."""


@contextlib.contextmanager
def captured_messages(level: int = av.logging.ERROR) -> Iterator[list[tuple[int, str, str]]]:
    """Keep a list of FFmpeg's messages in this thread, as (level, component, text).

    FFmpeg has one log for all threads, so one thread at a time captures it.
    """
    with _log_level:
        av.logging.set_level(level)
        try:
            with av.logging.Capture() as messages:
                yield messages
        finally:
            av.logging.set_level(None)


def open_container(
    path: Path, file_format: str | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> InputContainer:
    """Open a path as a file, whatever its name contains, and never as a playlist.

    file_format: FFmpeg's name of the format; None to detect it. max_pixels: of the frames that
    FFmpeg may decode to know a stream's kind. Raise InputError if it fails.
    """
    try:
        try:
            return _open(f"file:{path}", file_format, max_pixels)
        except av.error.FFmpegError:
            # FFmpeg prefers the suffix to some contents, and then chooses a refused format.
            with path.open("rb") as file:
                return _open("fd:", file_format, max_pixels, fd=str(file.fileno()))
    except av.error.FFmpegError:
        with path.open("rb") as file:
            if file.read(8)[4:] == b"ftyp":
                raise InputError(
                    f"{path} is cut off: its index is missing, so no frame can be read"
                ) from None
        raise InputError(f"{path} is not an image and not a video, or it is cut off") from None


def _open(url: str, file_format: str | None, max_pixels: int, **options: str) -> InputContainer:
    limits = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file,fd"}
    # Titles may not be UTF-8, as in many AVI files.
    return av.open(
        url,
        "r",
        format=file_format,
        options=_decoding_limits(max_pixels),
        container_options=limits | options,
        metadata_errors="replace",
    )


def _decoding_limits(max_pixels: int) -> dict[str, str]:
    """Return the options with which decoders refuse much larger frames before they allocate them.

    What counts for them is the size in memory, which has some more rows and columns.
    """
    return {"max_pixels": str(min(2 * max_pixels + 2**23, 2**31 - 1))}


def is_motion_jpeg(path: Path, max_pixels: int) -> bool:
    """Return whether a file begins with two JPEG pictures of the same size."""
    try:
        with contextlib.closing(open_container(path, "mjpeg", max_pixels)) as container:
            (stream,) = container.streams.video
            stream.codec_context.options = _decoding_limits(max_pixels)
            first, second = islice(container.decode(video=0), 2)
    except (InputError, ValueError, av.error.FFmpegError):  # One picture, then something else.
        return False
    return (first.width, first.height) == (second.width, second.height)


class OpenVideo:
    """The main picture stream of a video file (see `main_stream`).

    threads: "FRAME" decodes several frames at a time; "SLICE" decodes one after the other, so that
    each error belongs to a known frame. stream_count: the number of picture streams. number: the
    place of this one among them, from 1. packet_count: the number of decoded packets.
    """

    def __init__(
        self, path: Path, threads: str = "FRAME", max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> None:
        """Raise InputError if the file cannot be opened, or declares larger frames."""
        self.container = open_container(path, max_pixels=max_pixels)
        # Times that FFmpeg invents for packets without them do not always match the frames.
        self.container.flags &= ~_GENPTS
        pictures = [
            stream
            for stream in self.container.streams.video
            if not stream.disposition & Disposition.attached_pic
        ]
        if not pictures:
            sounds = self.container.streams.audio
            self.container.close()
            reason = "it holds sound only" if sounds else "it holds no frames"
            raise InputError(f"{path} is not a video: {reason}")
        self.stream = main_stream(pictures)
        self.number = pictures.index(self.stream) + 1
        self.stream_count = len(pictures)
        if self.stream.codec_context is None:
            self.container.close()
            raise InputError(f"{path} cannot be read: FFmpeg has no decoder for its pictures")
        try:
            context = self.stream.codec_context
            check_pixels((context.width, context.height), path, max_pixels)
        except InputError:
            self.container.close()
            raise
        self.packet_count = 0
        self._decoder = _create_decoder(self.stream, threads, max_pixels)

    def frames(self, *, strict: bool) -> Iterator[VideoFrame]:
        """Yield the remaining frames in display order, as FFmpeg shows them.

        strict: raise DamageError at the first damaged frame, instead of concealing the damage.
        """
        for packet in self._packets(strict):
            self.packet_count += packet is not None
            try:
                frames = self._decoder.decode(packet)
            except av.error.FFmpegError:
                if strict:
                    raise DamageError(_UNREADABLE) from None
                continue
            for frame in frames:
                if strict and frame.is_corrupt:
                    raise DamageError("a frame is incomplete")
                yield frame

    def _packets(self, strict: bool) -> Iterator[VideoPacket]:
        """Yield the stream's packets, and None at the end."""
        demuxed = self.container.demux(self.stream)
        previous: VideoPacket = None
        while True:
            try:
                packet = next(demuxed, None)
            except av.error.FFmpegError:
                if strict:
                    raise DamageError(_UNREADABLE) from None
                packet = None
            if packet is not None and not packet.size:
                continue
            if previous is not None:
                # In joined transport streams, the last packet of a part looks cut off. A new part
                # starts with a keyframe.
                if packet is not None and packet.is_keyframe:
                    previous.is_corrupt = False
                yield previous
            if packet is None:
                yield None
                return
            previous = packet

    def seek(self, time: int) -> None:
        """Seek to the keyframe at or before a time, in the stream's time base."""
        self.container.seek(time, stream=self.stream)
        self._decoder.flush_buffers()

    def crop(self) -> tuple[int, int, int, int]:
        """Return the pixels that the container crops: left, right, top, bottom."""
        # PyAV does not expose this side data of a stream, but FFmpeg prints it.
        with captured_messages(av.logging.INFO):
            printed: str = self.container.dumps_format()  # type: ignore[attr-defined]
        streams = re.split(r"(?m)^  Stream #0:", printed)
        stream = next(s for s in streams if re.match(rf"{self.stream.index}\b", s))
        match = re.search(r"Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)", stream)
        left, right, top, bottom = map(int, match.groups()) if match else (0, 0, 0, 0)
        return left, right, top, bottom

    def close(self) -> None:
        # End its threads here, without the GIL: freeing the decoder holds the GIL, and would wait
        # for ever for a thread that wants to log.
        self._decoder.flush_buffers()
        self.container.close()


def _create_decoder(stream: VideoStream, threads: str, max_pixels: int) -> VideoCodecContext:
    decoder: CodecContext = stream.codec_context
    name = _ALPHA_DECODERS.get(decoder.name)
    if name is not None and stream.metadata.get("alpha_mode") == "1":
        decoder = CodecContext.create(name, "r")
    decoder.thread_type = threads
    # Its threads must not log: they would wait for the GIL, whose holder may wait for them.
    decoder.options = {"log_level_offset": "1000"} | _decoding_limits(max_pixels)
    assert isinstance(decoder, VideoCodecContext)
    return decoder
