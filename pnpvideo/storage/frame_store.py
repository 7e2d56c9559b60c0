"""Frames of one size in a temporary file, written once and read many times."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from pnpvideo.clips.clip import Frames
from pnpvideo.files.atomic_output import write_error


class FrameStore:
    """A file of raw frames, or of masks of frames: uint8 (n, *shape)."""

    def __init__(self, file: IO[bytes], name: Path, shape: tuple[int, ...]) -> None:
        """file: empty. name: what to call it in messages. shape: of one frame."""
        self.frame_count = 0
        self._file, self._name, self._shape = file, name, shape

    def write_all(self, batches: Iterable[Frames]) -> Iterator[Frames]:
        """Yield the same batches, after writing each. RunError if the disk is full or fails."""
        for frames in batches:
            try:
                self._file.write(np.ascontiguousarray(frames).data)
            except OSError as error:
                raise write_error(self._name, error) from None
            self.frame_count += len(frames)
            yield frames

    def batches(self, size: int, span: range | None = None) -> Iterator[Frames]:
        """Yield all frames, or a span of them, in order, `size` at a time."""
        span = range(self.frame_count) if span is None else span
        for first in span[::size]:
            yield self._read(first, min(size, span.stop - first))

    def of(self, numbers: Sequence[int]) -> Frames:
        """Return the frames of these numbers, in their order."""
        return np.concatenate([self._read(number, 1) for number in numbers])

    def _read(self, first: int, count: int) -> Frames:
        one = math.prod(self._shape)
        self._file.seek(first * one)
        pixels = np.frombuffer(bytearray(self._file.read(count * one)), np.uint8)
        return pixels.reshape(count, *self._shape)

    def close(self) -> None:
        self._file.close()
