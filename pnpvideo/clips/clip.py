"""The clip: frames that are read on demand, with everything needed to write them back."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.stored import Stored

Frames = NDArray[np.uint8]
"""Frames of shape (count, height, width, 3): RGB, 0 to 255, upright, square pixels."""

Picture = NDArray[np.uint8]
"""One frame of shape (height, width, 3), otherwise as `Frames`."""

Alpha = NDArray[np.uint8]
"""Opacity of shape (count, height, width): 0 transparent, 255 opaque."""


def frame_count_text(count: int) -> str:
    """Return the number of frames in words."""
    return "1 frame" if count == 1 else f"{count} frames"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The times at which the frames of a clip are shown.

    Attributes:
        frame_rate: Frames per second, exact (30000/1001, not 29.97); if it varies, the number of
            frames divided by the whole duration, so that the last frame ends at count / frame_rate.
        times: Seconds from the first frame at which each frame appears, for a variable frame rate
            only; None means that frame i appears at i / frame_rate.
    """

    frame_rate: Fraction
    times: tuple[Fraction, ...] | None = None

    def start_of(self, number: int) -> Fraction:
        """Return the seconds at which frame `number` appears.

        For the frame count, return the seconds at which the last frame ends.
        """
        if self.times is not None and number < len(self.times):
            return self.times[number]
        return number / self.frame_rate


@dataclass(frozen=True, kw_only=True)
class Sound:
    """The part of a file's sound that belongs to a clip.

    Attributes:
        path: The file.
        start: Seconds within the file.
        duration: In seconds.
        joins: For a file joined from parts that each have their own clock: the seconds by which the
            clock of each part after the first is behind that of the whole file.
    """

    path: Path
    start: Fraction
    duration: Fraction
    joins: tuple[Fraction, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Colour:
    """The colour space of a clip's RGB values, in FFmpeg's names.

    primaries: "bt709", "bt2020" and others. transfer: "bt709", "smpte2084" (PQ) and others.
    """

    primaries: str = "bt709"
    transfer: str = "bt709"


class FrameReader(ABC):
    """A reader of one source's frames. Numbers count the chosen frames: 0 to len(self) - 1.

    `Clip` checks the numbers before it calls the reader.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, start: int, stop: int) -> Frames:
        """Read frames start to stop - 1. Reading in order is fast; going back may be slow."""

    def read_alpha(self, start: int, stop: int) -> Alpha:
        """Read the opacity of frames start to stop - 1. Called only if the source has alpha."""
        raise NotImplementedError

    def read_stored(self, number: int) -> Stored:
        """Read a frame's values as they are stored; of a video, its colours."""
        return Stored(values=self.read(number, number + 1)[0])

    def close(self) -> None:  # noqa: B027 -- most readers hold nothing
        """Release the file if the reader holds one."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A source of frames. A single image is a clip of one frame.

    Several threads may read one clip: a lock lets one at a time read.

    Attributes:
        reader: Reads the frames.
        width: Of the frames that `read` returns, in pixels, upright and with square pixels.
        height: The same.
        has_alpha: Whether the source can be transparent; `read` lays it on the background.
        timing: None if the source has none (a single image, a folder of frames).
        sound: None if the source has none.
        colour: Of the frames that `read` returns.
        name: The clip's name in messages and file names.
    """

    reader: FrameReader
    width: int
    height: int
    has_alpha: bool = False
    timing: Timing | None = None
    sound: Sound | None = None
    colour: Colour = Colour()
    name: str = "clip"
    _lock: AbstractContextManager[bool] = field(
        default_factory=threading.RLock, repr=False, compare=False
    )

    def __len__(self) -> int:
        return len(self.reader)

    def read(self, start: int, stop: int) -> Frames:
        """Read frames start to stop - 1 as uint8 of shape (stop - start, height, width, 3).

        Raise ValueError if the clip does not have these frames.
        """
        self._check(start, stop)
        with self._lock:
            return self.reader.read(start, stop)

    def read_alpha(self, start: int, stop: int) -> Alpha:
        """Read the opacity of these frames as uint8 of shape (stop - start, height, width).

        Raise ValueError if the clip does not have these frames.
        """
        self._check(start, stop)
        if not self.has_alpha:
            return np.full((stop - start, self.height, self.width), 255, np.uint8)
        with self._lock:
            return self.reader.read_alpha(start, stop)

    def read_stored(self, number: int) -> Stored:
        """Read a frame's values as they are stored, with its opacity if the source has alpha.

        Raise ValueError if the clip does not have this frame.
        """
        self._check(number, number + 1)
        with self._lock:
            stored = self.reader.read_stored(number)
        if stored.alpha is not None or not self.has_alpha:
            return stored
        return replace(stored, alpha=self.read_alpha(number, number + 1)[0])

    def _check(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= len(self):
            raise ValueError(f"frames {start} to {stop} were requested; the clip has {len(self)}")

    def batches(self, size: int) -> Iterator[Frames]:
        """Yield all frames in order, `size` at a time; the last batch may be shorter."""
        for start in range(0, len(self), size):
            yield self.read(start, min(start + size, len(self)))

    def close(self) -> None:
        with self._lock:
            self.reader.close()


class _FramesInMemory(FrameReader):
    def __init__(self, frames: Frames) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, start: int, stop: int) -> Frames:
        return self.frames[start:stop]


def clip_of_frames(frames: Frames, *, timing: Timing | None = None, name: str = "clip") -> Clip:
    """Return a clip of frames in memory, uint8 of shape (count, height, width, 3)."""
    _, height, width, _ = frames.shape
    return Clip(
        reader=_FramesInMemory(frames), width=width, height=height, timing=timing, name=name
    )
