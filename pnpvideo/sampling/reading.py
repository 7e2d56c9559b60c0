"""Readings: values of the source, read in a pass of its own and kept for later steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pnpvideo.files.available_memory import available_memory
from pnpvideo.models.network import HookPoint, PictureTokens, SelfAttention

_SHARE = 0.4
"""The share of a device's free memory that may be taken by what is kept."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The features, queries and keys of some of the source's frames.

    features: (frames, channels, height, width), by the block that computes them, and picture tokens
    of a transformer, (frames, tokens, channels). queries, keys: (frames, tokens, channels), by
    layer.
    """

    features: Mapping[HookPoint | PictureTokens, Tensor] = field(default_factory=dict)
    queries: Mapping[SelfAttention, Tensor] = field(default_factory=dict)
    keys: Mapping[SelfAttention, Tensor] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """The bytes of memory that it takes."""
        kinds = (self.features, self.queries, self.keys)
        return sum(tensor.nbytes for kind in kinds for tensor in kind.values())

    def frame(self, number: int) -> "Reading":
        """Return what was read of one frame, by its place in this reading. Shares its memory."""
        one = slice(number, number + 1)
        return Reading(
            features={block: x[one] for block, x in self.features.items()},
            queries={layer: x[one] for layer, x in self.queries.items()},
            keys={layer: x[one] for layer, x in self.keys.items()},
        )

    @classmethod
    def of(cls, parts: Sequence["Reading"]) -> "Reading":
        """Return readings of the same places as one, in order."""
        first = parts[0]
        return cls(
            features={b: torch.cat([one.features[b] for one in parts]) for b in first.features},
            queries={a: torch.cat([one.queries[a] for one in parts]) for a in first.queries},
            keys={a: torch.cat([one.keys[a] for one in parts]) for a in first.keys},
        )


class Readings:
    """Readings of the source at one level, made once for as many frames as fit in memory."""

    def __init__(self, read: Callable[[Sequence[int]], Reading], room: int) -> None:
        """read: reads frames by their numbers. room: how many bytes may be kept."""
        self._read, self._room = read, room
        self._kept: dict[int, Reading] = {}

    def of(self, frames: Sequence[int]) -> Reading:
        """Return the reading of these frames, made now or earlier."""
        missing = [frame for frame in frames if frame not in self._kept]
        if not missing:
            return Reading.of([self._kept[frame] for frame in frames])
        made = self._read(missing)
        each = {frame: made.frame(i) for i, frame in enumerate(missing)}
        whole = made
        if len(missing) < len(frames):
            whole = Reading.of([(self._kept | each)[frame] for frame in frames])
        for frame, reading in each.items():
            if reading.nbytes <= self._room:
                self._kept[frame] = reading
                self._room -= reading.nbytes
        return whole


def room_on(device: torch.device) -> int:
    """Return how many bytes of a device's memory readings may take."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(_SHARE * free)
    return int(_SHARE * available_memory())
