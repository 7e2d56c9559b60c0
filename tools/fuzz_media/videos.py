"""Small videos in every supported container and many codecs, made with PyAV."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pnpvideo.clips.clip import Frames
from pnpvideo.clips.write import write_clip
from tools.fuzz_media.pictures import HEIGHT, WIDTH, frames

_RATE = 25
_COUNT = 8
_SAMPLES = 48000


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """A file to make. size: None for the usual size."""

    container: str
    codec: str | None
    form: str = "yuv420p"
    sound: str | None = None
    size: tuple[int, int] | None = None
    options: dict[str, str] = field(default_factory=dict)


_H264 = {"g": "4", "bf": "2", "preset": "ultrafast", "x264-params": "threads=1"}
_H265 = {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"}
_AV1 = {"preset": "12", "svtav1-params": "lp=1"}
_PAL = (720, 576)
# These two encoders corrupt their memory, or stop, with smaller pictures.
_LARGER = (64, 64)

_KINDS = {
    "h264.mp4": _Kind(container="mp4", codec="libx264", sound="aac", options=_H264),
    "silent.mp4": _Kind(container="mp4", codec="libx264", options=_H264),
    "hevc.mp4": _Kind(container="mp4", codec="libx265", sound="ac3", options=_H265, size=_LARGER),
    "deep.mov": _Kind(
        container="mov", codec="libx265", form="yuv420p10le", options=_H265, size=_LARGER
    ),
    "mpeg4.m4v": _Kind(container="mp4", codec="mpeg4", sound="mp3"),
    "av1.mp4": _Kind(container="mp4", codec="libsvtav1", options=_AV1, size=_LARGER),
    "prores.mov": _Kind(container="mov", codec="prores_ks", form="yuva444p10le", sound="pcm_s16le"),
    "animation.mov": _Kind(container="mov", codec="qtrle", form="rgb24"),
    "png.mov": _Kind(container="mov", codec="png", form="rgba"),
    "jpeg.mov": _Kind(container="mov", codec="mjpeg", form="yuvj420p"),
    "h264.mkv": _Kind(container="matroska", codec="libx264", sound="flac", options=_H264),
    "fields.mkv": _Kind(
        container="matroska", codec="libx264", options=_H264 | {"flags": "+ildct+ilme"}
    ),
    "ffv1.mkv": _Kind(container="matroska", codec="ffv1", sound="opus"),
    "high.mkv": _Kind(
        container="matroska",
        codec="ffv1",
        form="gbrp12le",
        options={"color_trc": "smpte2084", "color_primaries": "bt2020"},
    ),
    "snow.mkv": _Kind(container="matroska", codec="snow", sound="eac3"),
    "vp8.webm": _Kind(container="webm", codec="libvpx", sound="vorbis"),
    "vp9.webm": _Kind(container="webm", codec="libvpx-vp9", sound="libopus"),
    "clear.webm": _Kind(container="webm", codec="libvpx-vp9", form="yuva420p"),
    "mpeg4.avi": _Kind(container="avi", codec="mpeg4", sound="mp3"),
    "msmpeg4.avi": _Kind(container="avi", codec="msmpeg4", sound="pcm_s16le"),
    "jpeg.avi": _Kind(container="avi", codec="mjpeg", form="yuvj422p"),
    "raw.avi": _Kind(container="avi", codec="rawvideo", form="bgr24"),
    "huffyuv.avi": _Kind(container="avi", codec="huffyuv", form="yuv422p", sound="ac3"),
    "utvideo.avi": _Kind(container="avi", codec="utvideo", form="gbrp"),
    "cinepak.avi": _Kind(container="avi", codec="cinepak", form="rgb24"),
    "h264.ts": _Kind(container="mpegts", codec="libx264", sound="aac", options=_H264),
    "mpeg2.ts": _Kind(container="mpegts", codec="mpeg2video", sound="mp2"),
    "hevc.ts": _Kind(container="mpegts", codec="libx265", options=_H265, size=_LARGER),
    "mpeg1.mpg": _Kind(container="mpeg", codec="mpeg1video", sound="mp2"),
    "mpeg2.vob": _Kind(container="vob", codec="mpeg2video", sound="ac3"),
    "stream.m2v": _Kind(container="mpeg2video", codec="mpeg2video"),
    "stream.h264": _Kind(container="h264", codec="libx264", options=_H264),
    "stream.h265": _Kind(container="hevc", codec="libx265", options=_H265, size=_LARGER),
    "stream.obu": _Kind(container="obu", codec="libsvtav1", options=_AV1, size=_LARGER),
    "stream.cmp": _Kind(container="m4v", codec="mpeg4"),
    "flv1.flv": _Kind(container="flv", codec="flv", sound="mp3"),
    "h264.flv": _Kind(container="flv", codec="libx264", sound="aac", options=_H264),
    "wmv2.wmv": _Kind(container="asf", codec="wmv2", sound="wmav2"),
    "vp8.ogv": _Kind(container="ogg", codec="libvpx", sound="libopus"),
    "mpeg2.mxf": _Kind(container="mxf", codec="mpeg2video", sound="pcm_s16le"),
    "ffv1.nut": _Kind(container="nut", codec="ffv1", sound="flac"),
    "vp8.ivf": _Kind(container="ivf", codec="libvpx"),
    "pal.dv": _Kind(container="dv", codec="dvvideo", size=_PAL, sound="pcm_s16le"),
    "rv20.rm": _Kind(container="rm", codec="rv20", sound="ac3"),
    "mpeg2.wtv": _Kind(container="wtv", codec="mpeg2video", sound="mp2"),
    "mpeg2.gxf": _Kind(container="gxf", codec="mpeg2video", size=_PAL),
    "flv1.swf": _Kind(container="swf", codec="flv", sound="mp3"),
    "raw.y4m": _Kind(container="yuv4mpegpipe", codec="rawvideo"),
    "pictures.mjpeg": _Kind(container="mjpeg", codec="mjpeg", form="yuvj420p"),
    "sound.mp4": _Kind(container="mp4", codec=None, sound="aac"),
    "sound.wav": _Kind(container="wav", codec=None, sound="pcm_s16le"),
    "sound.mp3": _Kind(container="mp3", codec=None, sound="mp3"),
}


def video_seeds() -> Iterator[tuple[str, bytes]]:
    """Yield file names with the format's suffix, and contents."""
    with TemporaryDirectory() as folder:
        for name, kind in _KINDS.items():
            path = Path(folder, name)
            _make(path, kind)
            yield name, path.read_bytes()
        stream = Path(folder, "h264.ts").read_bytes()
        yield "joined.ts", stream + stream
        for name in ("own.mp4", "own.mkv", "own.webm", "own.mov"):
            yield name, write_clip([frames(_COUNT)], Path(folder, name)).read_bytes()
        clear = [np.full((_COUNT, HEIGHT, WIDTH), 128, np.uint8)]
        for name in ("own-clear.webm", "own-clear.mov"):
            path = write_clip([frames(_COUNT)], Path(folder, name), alpha=clear)
            yield name, path.read_bytes()


def _make(path: Path, kind: _Kind) -> None:
    with av.open(str(path), "w", format=kind.container) as file:
        pictures = None if kind.codec is None else _pictures(file, kind, kind.codec)
        sound = None if kind.sound is None else _sound(file, kind.sound)
        if pictures is not None:
            for number, frame in enumerate(frames(_COUNT)):
                file.mux(pictures.encode(_frame(frame, number, kind)))
            file.mux(pictures.encode(None))
        if sound is not None:
            for heard in _heard(sound):
                file.mux(sound.encode(heard))
            file.mux(sound.encode(None))


def _pictures(file: OutputContainer, kind: _Kind, codec: str) -> VideoStream:
    stream = file.add_stream(codec, rate=_RATE, options=dict(kind.options))
    assert isinstance(stream, VideoStream)
    stream.width, stream.height = kind.size or (WIDTH, HEIGHT)
    stream.pix_fmt = kind.form
    stream.codec_context.thread_count = 1
    return stream


def _frame(pixels: Frames, number: int, kind: _Kind) -> VideoFrame:
    width, height = kind.size or (WIDTH, HEIGHT)
    frame = VideoFrame.from_ndarray(pixels, "rgb24").reformat(width, height, kind.form)
    frame.pts, frame.time_base = number, Fraction(1, _RATE)
    return frame


def _sound(file: OutputContainer, codec: str) -> AudioStream:
    rate = 44100 if codec in ("mp3", "wmav2") else _SAMPLES
    # FFmpeg's Vorbis encoder is marked as experimental.
    stream = file.add_stream(codec, rate=rate, layout="stereo", options={"strict": "-2"})
    assert isinstance(stream, AudioStream)
    stream.bit_rate = 96_000
    return stream


def _heard(stream: AudioStream) -> Iterator[AudioFrame]:
    """Yield a tone as long as the pictures, in frames of the codec's size."""
    context = stream.codec_context
    rate, piece = context.sample_rate, context.frame_size or 1024
    for begin in range(0, rate * _COUNT // _RATE, piece):
        wave = 9000 * np.sin(np.arange(begin, begin + piece) * 2 * np.pi * 440 / rate)
        both = np.repeat(wave.astype(np.int16), 2)[np.newaxis]
        frame = AudioFrame.from_ndarray(both, "s16", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
        yield frame
