"""The passes of one step: which frames go through the network together, in which order, and what
is injected and shared in each.

A frame here is one piece. Models of videos do not have keyframes, and the pieces of a scene go
through the network together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from pnpvideo.models.network import Batch
from pnpvideo.options.method import AttentionSharing
from pnpvideo.sampling.reading import Reading


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Frames that go through the network together.

    frames: their numbers.
    role: "alone": they share nothing; "scene": a video model relates them to one another;
        "keyframes": they attend to one another and leave what others need; "between": they take
        what keyframes have left.
    neighbours: for "between": the keyframes before and after each frame.
    kept: for "keyframes": those of earlier passes that are still needed; no others are.
    """

    frames: tuple[int, ...]
    role: Literal["alone", "scene", "keyframes", "between"] = "alone"
    neighbours: tuple[tuple[int, int], ...] = ()
    kept: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """The number of frames."""
        return len(self.frames)

    @property
    def places(self) -> slice | Sequence[int]:
        """The frames' places on an axis of all frames: a slice if they follow one another.

        A GPU would have to wait for a list of numbers to be copied to it.
        """
        following = slice(self.frames[0], self.frames[-1] + 1)
        if self.frames == tuple(range(following.start, following.stop)):
            return following
        return list(self.frames)

    @property
    def sides(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The keyframe before each frame, and the one after each."""
        before, after = zip(*self.neighbours, strict=True)
        return before, after

    def part(self, part: slice) -> "Pass":
        """Return the pass of some of these frames alone; keyframes must stay together."""
        return replace(self, frames=self.frames[part], neighbours=self.neighbours[part])


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """Attention that the frames of a pass share.

    mode: "extended" or "propagate". frame_pass: its frames and their role.
    matches: for "propagate" between keyframes: by the number of tokens of a layer, the indices
        (frames, 2, tokens) that `propagate` takes, on the network's device.
    """

    mode: AttentionSharing
    frame_pass: Pass
    matches: Mapping[int, Tensor] = field(default_factory=dict)

    @property
    def takes_outputs(self) -> bool:
        """Whether the frames take the outputs of keyframes instead of computing attention."""
        return self.mode == "propagate" and self.frame_pass.role == "between"

    @property
    def weights(self) -> Tensor:
        """The weight of the keyframe before each frame, by distance: (frames), 0 to 1."""
        pairs = zip(self.frame_pass.frames, self.frame_pass.neighbours, strict=True)
        shares = [(after - frame) / (after - before) for frame, (before, after) in pairs]
        return torch.tensor(shares, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class InjectedBatch(Batch):
    """A batch with the branches of one or several targets, and what they take from the source.

    with_source: the first branch is the source's. features: whether its features are injected.
    attention: whether its queries and keys are. reading: what an earlier pass computed of these, if
    the source is not in this one. branches_with_equal_latents: how many of the targets' branches in
    a row have the same latents and differ only in their text. sharing: None if frames share no
    attention.
    """

    with_source: bool = False
    features: bool = False
    attention: bool = False
    reading: Reading = field(default_factory=Reading)
    branches_with_equal_latents: int = 1
    sharing: Sharing | None = None

    @property
    def source_rows(self) -> int:
        """The number of the source's rows in the batch; they come first."""
        return self.piece_count if self.with_source else 0


def plan_alone(frames: range, batch_size: int) -> Iterator[Pass]:
    """Yield frames in order, in batches that share nothing."""
    for first in range(0, len(frames), batch_size):
        yield Pass(frames=tuple(frames[first : first + batch_size]))


def plan_shared(
    scenes: Sequence[range],
    keyframes: Sequence[int],
    *,
    window: int,
    step: int,
    batch_size: int,
) -> Iterator[Pass]:
    """Yield a window of keyframes, then the frames up to its last one in batches, then the next.

    So only the tokens of one window and one more keyframe are in memory, in a clip of any length.
    The windows end one keyframe earlier at each step: where they meet changes, so that what frames
    share spreads from one window to the next. Windows depend only on the keyframes and the step, so
    no result depends on batch_size.
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
