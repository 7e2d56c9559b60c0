"""Makes real test files with ffmpeg and Pillow, and reads files without the package's code."""

import re
import subprocess
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Clip, Frames


def ffmpeg(*arguments: str | Path) -> bytes:
    """Run ffmpeg, which must succeed; returns its stdout."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-loglevel", "error"]
    done = subprocess.run([*command, "-y", *map(str, arguments)], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def describe(path: Path) -> str:
    """Return ffmpeg's output about a file."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-i", str(path)]
    return subprocess.run(command, capture_output=True).stderr.decode(errors="replace")


def make_video(
    path: Path,
    *output: str,
    frames: int = 10,
    size: str = "64x48",
    rate: str = "25",
    sound: bool = False,
) -> Path:
    """A moving test picture of `frames` frames; `output`: ffmpeg's options for the file."""
    seconds = frames / float(Fraction(rate)) + 1
    source = ["-f", "lavfi", "-i", f"testsrc=s={size}:r={rate}:d={seconds}"]
    if sound:
        # The pitch rises, so that every moment sounds different.
        source += [
            "-f",
            "lavfi",
            "-i",
            "aevalsrc='0.5*sin(2*PI*(300+400*t)*t)':s=44100",
            "-shortest",
        ]
        source += ["-t", str(float(frames / Fraction(rate)))]
    if "-pix_fmt" not in output:
        output = ("-pix_fmt", "yuv420p", *output)
    ffmpeg(*source, "-frames:v", str(frames), *output, path)
    return path


def decode(path: Path, *output: str) -> Frames:
    """All frames as ffmpeg shows them, RGB."""
    raw = ffmpeg(
        *("-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", *output),
        *("-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "-"),
    )
    frames = []
    while raw:
        head = re.match(rb"P6\n(\d+) (\d+)\n255\n", raw)
        assert head is not None
        width, height = int(head[1]), int(head[2])
        end = head.end() + width * height * 3
        frames.append(np.frombuffer(raw[head.end() : end], np.uint8).reshape(height, width, 3))
        raw = raw[end:]
    return np.stack(frames)


def frame_times(path: Path) -> tuple[list[Fraction], Fraction]:
    """Seconds at which each frame appears, and at which the last one ends."""
    text = ffmpeg(
        *("-copyts", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough"),
        *("-c:v", "wrapped_avframe", "-enc_time_base", "demux", "-f", "framecrc", "-"),
    ).decode()
    found = re.search(r"#tb 0: (\S+)", text)
    assert found is not None
    rows = [line.split(",") for line in text.splitlines() if not line.startswith("#")]
    times = [int(row[2]) * Fraction(found[1]) for row in rows]
    return times, times[-1] + int(rows[-1][3]) * Fraction(found[1])


def samples(path: Path) -> NDArray[np.float64]:
    """The sound, one channel at 8000 Hz, as it is heard from the first picture on."""
    raw = ffmpeg(
        *("-i", path, "-map", "0:a:0", "-af", "aresample=async=1:first_pts=0"),
        *("-ac", "1", "-ar", "8000", "-f", "s16le", "-"),
    )
    return np.frombuffer(raw, np.int16).astype(np.float64)


def all_frames(clip: Clip, batch: int = 4) -> Frames:
    return np.concatenate(list(clip.batches(batch)))


def smooth_frames(count: int, width: int = 64, height: int = 48) -> Frames:
    """Gradients whose colours change from frame to frame; codecs keep them well."""
    y, x = np.mgrid[0:height, 0:width]
    frames = []
    for i in range(count):
        blue = np.full_like(x, 20 + i * 200 // max(count, 1))
        frames.append(np.stack([x * 255 // width, y * 255 // height, blue], axis=-1))
    return np.stack(frames).astype(np.uint8)


def crop_container(source: Path, path: Path, crop: tuple[int, int, int, int]) -> Path:
    """A copy of a video's pictures whose container (mkv, mp4, mov) hides pixels of each side.

    crop: left, right, top, bottom.
    """
    left, right, top, bottom = crop
    raw = ffmpeg("-i", source, "-map", "0:v", "-c", "copy", "-f", "matroska", "-")
    sides = ((0xAA, bottom), (0xBB, top), (0xCC, left), (0xDD, right))
    more = b"".join(bytes([0x54, side, 0x81, pixels]) for side, pixels in sides)
    marked = path.with_name("marked.mkv")
    marked.write_bytes(_grow(raw, (0x18538067, 0x1654AE6B, 0xAE, 0xE0), more))
    ffmpeg("-i", marked, "-c", "copy", path)
    return path


def _grow(content: bytes, way: tuple[int, ...], more: bytes) -> bytes:
    """Matroska elements with more at the end of the one that element numbers lead to."""
    at = 0
    while True:
        number, body = _read_number(content, at, marked=True)
        size, begin = _read_number(content, body, marked=False)
        unknown = size == (1 << 7 * (begin - body)) - 1
        end = len(content) if unknown else begin + size
        if number == way[0]:
            inner = content[begin:end]
            inner = inner + more if len(way) == 1 else _grow(inner, way[1:], more)
            told = content[body:begin] if unknown else b"\x01" + len(inner).to_bytes(7, "big")
            return content[:body] + told + inner + content[end:]
        at = end


def _read_number(content: bytes, at: int, *, marked: bool) -> tuple[int, int]:
    """One of EBML's numbers of varying length, with or without the bit that tells its length."""
    length = 9 - content[at].bit_length()
    value = int.from_bytes(content[at : at + length], "big")
    return value if marked else value & ((1 << 7 * length) - 1), at + length
