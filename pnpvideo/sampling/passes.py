"""The passes of one step: which frames go through the network together, in which order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Frames that go through the network together.

    frames: their numbers.
    role: "alone": they share nothing; "keyframes": they attend to one another and leave what
        others need; "between": they take what keyframes have left.
    neighbours: for "between": the keyframes before and after each frame.
    kept: for "keyframes": those of earlier passes that are still needed; no others are.
    """

    frames: tuple[int, ...]
    role: Literal["alone", "keyframes", "between"] = "alone"
    neighbours: tuple[tuple[int, int], ...] = ()
    kept: tuple[int, ...] = ()

    def part(self, part: slice) -> "Pass":
        """A part of the frames by themselves; keyframes, which need one another, have none."""
        return replace(self, frames=self.frames[part], neighbours=self.neighbours[part])


def plan_alone(count: int, batch_size: int) -> Iterator[Pass]:
    """All frames in order, in batches."""
    for first in range(0, count, batch_size):
        yield Pass(frames=tuple(range(first, min(first + batch_size, count))))


def plan_shared(
    scenes: Sequence[range],
    keyframes: Sequence[int],
    *,
    window: int,
    step: int,
    batch_size: int,
) -> Iterator[Pass]:
    """A window of keyframes, then the frames up to its last one in batches, then the next window.

    So what is kept of keyframes is that of one window and one more, in a clip of any length. The
    windows end one keyframe earlier at each step: where they meet changes, and what one window
    knows reaches the next. They depend on nothing but keyframes and step, so no result depends on
    batch_size.
    """
    for scene in scenes:
        previous: tuple[int, ...] = ()
        for group in _windows([k for k in keyframes if k in scene], window, step):
            yield Pass(frames=group, role="keyframes", kept=previous)
            between = [
                (frame, (before, after))
                for before, after in pairwise((*previous, *group))
                for frame in range(before + 1, after)
            ]
            for first in range(0, len(between), batch_size):
                frames, neighbours = zip(*between[first : first + batch_size], strict=True)
                yield Pass(frames=frames, role="between", neighbours=neighbours)
            previous = group[-1:]


def _windows(keyframes: list[int], size: int, step: int) -> Iterator[tuple[int, ...]]:
    if len(keyframes) <= size:
        yield tuple(keyframes)
        return
    starts = [0, *(i for i in range(1, len(keyframes)) if (i + step) % size == 0)]
    for start, stop in pairwise([*starts, len(keyframes)]):
        yield tuple(keyframes[start:stop])
