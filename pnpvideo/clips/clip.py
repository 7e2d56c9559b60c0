"""The clip: frames that are read when asked for, with all that is needed to write them back."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
"""Frames of shape (count, height, width, 3): RGB, 0 to 255, upright, square pixels."""

Alpha = NDArray[np.uint8]
"""Opacity of shape (count, height, width): 0 transparent, 255 opaque."""


def tell_frames(count: int) -> str:
    """How many frames there are, in words."""
    return "1 frame" if count == 1 else f"{count} frames"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """When the frames of a clip are shown.

    frame_rate: frames a second, exact (30000/1001, not 29.97); where it varies, the number of
        frames over the whole duration, so that the last frame ends at count / frame_rate.
    times: seconds at which each frame appears, counted from the first, for a variable frame rate
        only; None means that frame i appears at i / frame_rate.
    """

    frame_rate: Fraction
    times: tuple[Fraction, ...] | None = None

    def start_of(self, number: int) -> Fraction:
        """Seconds at which a frame appears; for the number of frames, when the last one ends."""
        if self.times is not None and number < len(self.times):
            return self.times[number]
        return number / self.frame_rate


@dataclass(frozen=True, kw_only=True)
class Sound:
    """The part of a file's sound that belongs to a clip.

    start, duration: seconds within the file.
    joins: of a file that is joined from parts, each with a clock of its own: the seconds that each
        part's clock, but the first one's, is behind that of the whole.
    """

    path: Path
    start: Fraction
    duration: Fraction
    joins: tuple[Fraction, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Colour:
    """What the numbers of a clip's red, green and blue mean, in FFmpeg's names.

    primaries: such as "bt709" and "bt2020". transfer: such as "bt709" and "smpte2084" (PQ).
    """

    primaries: str = "bt709"
    transfer: str = "bt709"


class FrameReader(ABC):
    """Reads frames from one source. Frame numbers count the chosen frames: 0 to len(self) - 1.

    It is asked for such frames only: `Clip` checks that.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, start: int, stop: int) -> Frames:
        """Frames start to stop - 1. Reading in order is fast; going back works and may be slow."""

    def read_alpha(self, start: int, stop: int) -> Alpha:
        """The opacity of frames start to stop - 1; asked of sources that have one only."""
        raise NotImplementedError

    def close(self) -> None:  # noqa: B027 -- most readers hold nothing
        """Release the file, if one is held."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A source of frames. A single image is a clip of one frame.

    width, height: of the frames that `read` gives, in pixels, upright and with square pixels.
    has_alpha: whether the source can be transparent; `read` gives it on the background.
    timing: None where the source has none (a single image, a folder of frames).
    sound: None where the source has none.
    colour: of the frames that `read` gives.
    name: what to call the clip in messages and file names.
    Threads may read one clip: one after the other.
    """

    reader: FrameReader
    width: int
    height: int
    has_alpha: bool = False
    timing: Timing | None = None
    sound: Sound | None = None
    colour: Colour = Colour()
    name: str = "clip"
    _turn: AbstractContextManager[bool] = field(
        default_factory=threading.RLock, repr=False, compare=False
    )

    def __len__(self) -> int:
        return len(self.reader)

    def read(self, start: int, stop: int) -> Frames:
        """Frames start to stop - 1 as uint8 of shape (stop - start, height, width, 3).

        ValueError where the clip has no such frames.
        """
        self._check(start, stop)
        with self._turn:
            return self.reader.read(start, stop)

    def read_alpha(self, start: int, stop: int) -> Alpha:
        """Opacity of frames start to stop - 1 as uint8 of shape (stop - start, height, width).

        ValueError where the clip has no such frames.
        """
        self._check(start, stop)
        if not self.has_alpha:
            return np.full((stop - start, self.height, self.width), 255, np.uint8)
        with self._turn:
            return self.reader.read_alpha(start, stop)

    def _check(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= len(self):
            raise ValueError(f"frames {start} to {stop} asked for; the clip has {len(self)}")

    def batches(self, size: int) -> Iterator[Frames]:
        """All frames in order, `size` at a time, the last batch possibly shorter."""
        for start in range(0, len(self), size):
            yield self.read(start, min(start + size, len(self)))

    def close(self) -> None:
        with self._turn:
            self.reader.close()


class _FramesInMemory(FrameReader):
    def __init__(self, frames: Frames) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, start: int, stop: int) -> Frames:
        return self.frames[start:stop]


def clip_of_frames(frames: Frames, *, timing: Timing | None = None, name: str = "clip") -> Clip:
    """A clip of frames that are in memory, uint8 of shape (count, height, width, 3)."""
    _, height, width, _ = frames.shape
    return Clip(
        reader=_FramesInMemory(frames), width=width, height=height, timing=timing, name=name
    )
