"""A video file opened with PyAV: its first picture stream, decoded, with FFmpeg's complaints."""

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

from pnpvideo.errors import InputError

# Containers we open. Others of FFmpeg's would turn text into video or follow links in playlists.
_CONTAINERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,ivf,dv,rm,wtv,gxf,h264,hevc,av1,obu"
    ",m4v,mjpeg,yuv4mpegpipe,gif,swf,mp3,wav,flac,aac,ac3,aiff,amr,caf,w64"
)

# FFmpeg's own decoders leave out the alpha of these two.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}

_log_level = threading.RLock()


VideoPacket: TypeAlias = "Packet[VideoStream] | None"

_GENPTS = 0x1  # AVFMT_FLAG_GENPTS, which PyAV sets.


class DamageError(Exception):
    """Why the frames after the last one cannot be read."""


@contextlib.contextmanager
def complaints(level: int = av.logging.ERROR) -> Iterator[list[tuple[int, str, str]]]:
    """What FFmpeg says meanwhile in this thread, as (level, who, words).

    FFmpeg has one log for all threads, so one thread at a time listens.
    """
    with _log_level:
        av.logging.set_level(level)
        try:
            with av.logging.Capture() as said:
                yield said
        finally:
            av.logging.set_level(None)


def open_container(path: Path, form: str | None = None) -> InputContainer:
    """The open file, as a file whatever its name holds, and no playlist. InputError else.

    form: its format in FFmpeg's words, where its contents are not to tell it.
    """
    try:
        try:
            return _open(f"file:{path}", form)
        except av.error.FFmpegError:
            # FFmpeg puts the suffix above some contents, and takes them for what we do not open.
            with path.open("rb") as file:
                return _open("fd:", form, fd=str(file.fileno()))
    except av.error.FFmpegError as error:
        with path.open("rb") as file:
            if file.read(8)[4:] == b"ftyp":
                raise InputError(
                    f"{path} is cut off: the table of its frames is missing, so none can be read"
                ) from None
        why = error.strerror
        raise InputError(f"{path} is not an image, not a video, or is damaged: {why}") from None


def _open(url: str, form: str | None, **options: str) -> InputContainer:
    limits = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file,fd"}
    # Titles may be no UTF-8, as in many an AVI.
    return av.open(
        url, "r", format=form, container_options=limits | options, metadata_errors="replace"
    )


def is_motion_jpeg(path: Path) -> bool:
    """Whether a file that begins with a JPEG picture goes on with another one of its size."""
    try:
        with contextlib.closing(open_container(path, "mjpeg")) as container:
            first, second = islice(container.decode(video=0), 2)
    except (InputError, ValueError, av.error.FFmpegError):  # One picture, and what else follows.
        return False
    return (first.width, first.height) == (second.width, second.height)


class OpenVideo:
    """The first picture stream of a video file.

    threads: "FRAME" decodes several frames at a time, and "SLICE" one after the other, where each
    error belongs to a known frame. stream_count: of picture streams. packet_count: of packets that
    were decoded.
    """

    def __init__(self, path: Path, threads: str = "FRAME") -> None:
        self.container = open_container(path)
        # Times that FFmpeg makes up for packets without are not always those of the frames.
        self.container.flags &= ~_GENPTS
        pictures = [
            stream
            for stream in self.container.streams.video
            if Disposition.attached_pic not in Disposition(stream.disposition)
        ]
        if not pictures:
            sounds = self.container.streams.audio
            self.container.close()
            what = "it holds sound only" if sounds else "it holds no frames"
            raise InputError(f"{path} is not a video: {what}")
        self.stream: VideoStream = pictures[0]
        self.stream_count = len(pictures)
        if self.stream.codec_context is None:
            self.container.close()
            raise InputError(f"{path} cannot be read: no decoder knows its pictures")
        self.packet_count = 0
        self._decoder = _decoder_of(self.stream, threads)

    def frames(self, *, strict: bool) -> Iterator[VideoFrame]:
        """The frames from here on in the order of showing, as FFmpeg shows them.

        strict: the first frame that is damaged raises DamageError, instead of being guessed at.
        """
        for packet in self._packets(strict):
            self.packet_count += packet is not None
            try:
                frames = self._decoder.decode(packet)
            except av.error.FFmpegError as error:
                if strict:
                    raise DamageError(error.strerror) from None
                continue
            for frame in frames:
                if strict and frame.is_corrupt:
                    raise DamageError("a frame is incomplete")
                yield frame

    def _packets(self, strict: bool) -> Iterator[VideoPacket]:
        """The stream's packets, and None at the end."""
        demuxed = self.container.demux(self.stream)
        before: VideoPacket = None
        while True:
            try:
                packet = next(demuxed, None)
            except av.error.FFmpegError as error:
                if strict:
                    raise DamageError(error.strerror) from None
                packet = None
            if packet is not None and not packet.size:
                continue
            if before is not None:
                # Where transport streams are joined, the last packet of a part looks as if the
                # part's end were lost. A new part starts with a keyframe.
                if packet is not None and packet.is_keyframe:
                    before.is_corrupt = False
                yield before
            if packet is None:
                yield None
                return
            before = packet

    def seek(self, time: int) -> None:
        """Go to the keyframe at or before a time of the stream."""
        self.container.seek(time, stream=self.stream)
        self._decoder.flush_buffers()

    def crop(self) -> tuple[int, int, int, int]:
        """Pixels that the container hides: left, right, top, bottom."""
        # PyAV passes on all of a stream's side data but this; FFmpeg prints it.
        with complaints(av.logging.INFO):
            printed: str = self.container.dumps_format()  # type: ignore[attr-defined]
        streams = re.split(r"(?m)^  Stream #0:", printed)
        stream = next(s for s in streams if re.match(rf"{self.stream.index}\b", s))
        found = re.search(r"Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)", stream)
        left, right, top, bottom = map(int, found.groups()) if found else (0, 0, 0, 0)
        return left, right, top, bottom

    def close(self) -> None:
        # Its threads end here, where Python is not held: freeing the decoder holds it, and waits
        # for ever for a thread that wants to tell something.
        self._decoder.flush_buffers()
        self.container.close()


def _decoder_of(stream: VideoStream, threads: str) -> VideoCodecContext:
    decoder: CodecContext = stream.codec_context
    name = _ALPHA_DECODERS.get(decoder.name)
    if name is not None and stream.metadata.get("alpha_mode") == "1":
        decoder = CodecContext.create(name, "r")
    decoder.thread_type = threads
    # Its threads must not wait for Python, which may be waiting for them: they stay silent.
    decoder.options = {"log_level_offset": "1000"}
    assert isinstance(decoder, VideoCodecContext)
    return decoder
