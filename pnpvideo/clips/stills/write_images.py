"""Writing of frames -> a folder of images | one image | an animated WebP."""

import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pnpvideo.clips.clip import Frames, Timing
from pnpvideo.errors import InputError


def write_folder(batches: Iterator[Frames], folder: Path) -> None:
    """Write 000001.png and so on into an empty folder."""
    number = 0
    for batch in batches:
        for frame in batch:
            number += 1
            Image.fromarray(frame).save(folder / f"{number:06d}.png")
    if number == 0:
        raise InputError("there are no frames to write")


def write_image(batches: Iterator[Frames], part: Path, *, quality: int) -> None:
    """Write one frame as png or jpg. Raise InputError if there are several."""
    frame = None
    for batch in batches:
        if frame is not None or len(batch) > 1:
            raise InputError(
                f"{part.suffix} holds one frame, and there are several: give a folder (a name "
                "without a suffix) or a video"
            )
        frame = batch[0].copy()
    if frame is None:
        raise InputError("there are no frames to write")
    if part.suffix.lower() == ".png":
        Image.fromarray(frame).save(part)
    else:
        # Half-resolution colours are visible at red edges, so only low qualities use them.
        subsampling = 0 if quality >= 80 else 2
        Image.fromarray(frame).save(part, "JPEG", quality=quality, subsampling=subsampling)


def write_animation(batches: Iterator[Frames], part: Path, *, timing: Timing, quality: int) -> None:
    """Write a WebP, animated if there are several frames.

    Frames are encoded one by one and joined here: Pillow would hold all of them in memory, and
    both Pillow and FFmpeg would merge equal frames.
    """
    frames = (frame for batch in batches for frame in batch)
    first, second = next(frames, None), next(frames, None)
    if first is None:
        raise InputError("there are no frames to write")
    if second is None:
        part.write_bytes(_encode(first, quality))
        return
    height, width, channels = first.shape
    flags = b"\x12" if channels == 4 else b"\x02"  # 2: animated; 16: has alpha.
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    with part.open("wb") as file:
        file.write(b"RIFF\0\0\0\0WEBP")
        file.write(_chunk(b"VP8X", flags + b"\0\0\0" + canvas))
        file.write(_chunk(b"ANIM", b"\xff\xff\xff\xff\0\0"))  # White background, endless loop.
        time_ms = 0
        for number, frame in enumerate(chain((first, second), frames), start=1):
            # From the exact times, so that rounding does not add up.
            end_ms = max(round(timing.start_of(number) * 1000), time_ms + 1)
            place = b"\0" * 6 + canvas + (end_ms - time_ms).to_bytes(3, "little") + b"\x02"
            file.write(_chunk(b"ANMF", place + _picture(_encode(frame, quality))))
            time_ms = end_ms
        size = file.tell() - 8
        file.seek(4)
        file.write(size.to_bytes(4, "little"))


def _encode(frame: NDArray[np.uint8], quality: int) -> bytes:
    """Return a WebP file of one frame."""
    if max(frame.shape[:2]) > 16383:
        raise InputError(f"WebP holds at most 16383 pixels per side, not {max(frame.shape[:2])}")
    memory = io.BytesIO()
    Image.fromarray(frame).save(memory, "WEBP", quality=quality)
    return memory.getvalue()


def _picture(file: bytes) -> bytes:
    """Return the chunks of a WebP file that hold its picture."""
    # A file with transparency begins with a VP8X chunk of 18 bytes.
    return file[30:] if file[12:16] == b"VP8X" else file[12:]


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)
