"""Which frames of a source a clip has, and how they are to be read."""

from dataclasses import dataclass
from pathlib import Path

from pnpvideo.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """The options of `read_clip`, where they are described."""

    start: int = 0
    frames: int | None = None
    stride: int = 1
    background: tuple[int, int, int] = (255, 255, 255)
    allow_truncated: bool = False

    def __post_init__(self) -> None:
        least = {"start": 0, "frames": 1, "stride": 1}
        for name, limit in least.items():
            value = getattr(self, name)
            if value is not None and value < limit:
                raise InputError(f"{name} is {value}; it must be {limit} or more")

    @property
    def stop(self) -> int | None:
        """One past the last source frame that can be chosen; None: no limit."""
        return None if self.frames is None else self.start + (self.frames - 1) * self.stride + 1

    def choose(self, count: int, source: Path) -> range:
        """The chosen ones of a source's `count` frames, at least one. InputError otherwise."""
        if self.start >= count:
            have = "1 frame" if count == 1 else f"{count} frames"
            raise InputError(
                f"cannot start at frame {self.start} of {source}: it has {have}, counted from 0"
            )
        return range(self.start, count, self.stride)[: self.frames]


def readable(count: int) -> str:
    """The end of a message on a damaged source: how many frames can be read, and how."""
    if count == 0:
        return "no frame can be read"
    frames = "frame" if count == 1 else f"{count} frames"
    return (
        f"its first {frames} can be read; --allow-truncated uses {'it' if count == 1 else 'them'}"
    )
