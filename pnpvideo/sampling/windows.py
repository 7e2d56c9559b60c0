"""Passes of a video model: the pieces of a scene go through it together, in windows that overlap.

Within a window the network relates all pieces to one another. Where windows overlap, their
predictions are blended, so that nothing changes at once where one ends.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from pnpvideo.models.batches import free_memory, is_out_of_memory
from pnpvideo.models.model import Window
from pnpvideo.models.network import Batch
from pnpvideo.sampling.passes import InjectedBatch
from pnpvideo.sampling.reading import Reading
from pnpvideo.sampling.rows import by_branch, rows_of

_log = logging.getLogger(__name__)

Predict = Callable[..., Tensor]
"""Returns the network's output for a batch, or for all of its rows but the source's."""


class Read(Protocol):
    """A function that reads the source in a pass of its own (see `FeatureInjector.read`)."""

    def __call__(self, source: Batch, *, features: bool, attention: bool) -> Reading: ...


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """The scenes of a source for a video model. scenes: the piece numbers of each."""

    scenes: Sequence[range]
    window: Window

    def within(self, span: range) -> list[range]:
        """Return the scenes of a span, which holds whole ones."""
        return [scene for scene in self.scenes if scene.start in span]


def cut_into_windows(count: int, window: Window) -> list[range]:
    """Return the windows of so many pieces: all of the same length, the last at the end."""
    last = max(count - window.length, 0)
    starts = [*range(0, last, window.stride), last]
    return [range(start, min(start + window.length, count)) for start in starts]


def blend_weights(windows: Sequence[range]) -> list[Tensor]:
    """Return the weight of each window at each of its pieces; at each piece they sum to 1.

    They fall towards the ends of a window, along straight lines.
    """
    total = torch.zeros(windows[-1].stop, dtype=torch.float64)
    ramps = []
    for window in windows:
        place = torch.arange(1, len(window) + 1, dtype=torch.float64)
        ramps.append(torch.minimum(place, place.flip(0)))
        total[window.start : window.stop] += ramps[-1]
    return [
        ramp / total[window.start : window.stop]
        for ramp, window in zip(ramps, windows, strict=True)
    ]


class InWindows:
    """A `Predict` for the pieces of one scene, of a network that takes clips.

    A batch has latents (branches * pieces, c, h, w), and the output has the same shape. The
    network is given one clip for each branch, (branches, c, pieces, h, w). If the branches of a
    window do not fit into memory together, they go one by one, the source's first.
    """

    def __init__(self, predict: Predict, window: Window, read: Read | None = None) -> None:
        """read: reads what is injected of the source; None if nothing ever is."""
        self._predict, self._window, self._read = predict, window, read
        self._apart = False

    def __call__(self, batch: Batch) -> Tensor:
        branches = by_branch(batch.latents, len(batch.pieces))
        windows = cut_into_windows(branches.shape[1], self._window)
        total: Tensor | None = None
        for window, weights in zip(windows, blend_weights(windows), strict=True):
            some = slice(window.start, window.stop)
            clips = branches[:, some].transpose(1, 2).contiguous()
            part = replace(batch, latents=clips, pieces=batch.pieces[some])
            output = self._fitting(part).transpose(1, 2)
            if len(windows) == 1:
                return rows_of(output)
            if total is None:
                total = output.new_zeros(len(output), *branches.shape[1:])
            total[:, some] += weights.to(output)[:, None, None, None] * output
        assert total is not None
        return rows_of(total)

    def _fitting(self, batch: Batch) -> Tensor:
        """Predict one window, with all of its branches at once if they fit."""
        if not self._apart:
            try:
                return self._predict(batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or len(batch.latents) == 1:
                    raise
            free_memory()
            self._apart = True
            _log.info("a window does not fit into memory with all of its texts; they go one by one")
        if isinstance(batch, InjectedBatch):
            return self._one_by_one(batch)
        return torch.cat(
            [
                self._predict(replace(batch, latents=clip[None], texts=batch.texts[row : row + 1]))
                for row, clip in enumerate(batch.latents)
            ]
        )

    def _one_by_one(self, batch: InjectedBatch) -> Tensor:
        reading, rows = batch.reading, batch.source_rows
        if rows and (batch.features or batch.attention):
            assert self._read is not None
            source = Batch(
                latents=batch.latents[:rows],
                timestep=batch.timestep,
                texts=batch.texts.first,
                pieces=batch.pieces,
            )
            reading = self._read(source, features=batch.features, attention=batch.attention)
        each, outputs = batch.branches_with_equal_latents, []
        for row in range(rows, len(batch.latents)):
            # What is injected is for the prompt alone, the last of its branches.
            injects = (row - rows) % each == each - 1
            one = slice(row, row + 1)
            part = replace(
                batch,
                latents=batch.latents[one],
                texts=batch.texts[one],
                with_source=False,
                features=batch.features and injects,
                attention=batch.attention and injects,
                reading=reading,
                branches_with_equal_latents=1,
            )
            outputs.append(self._predict(part))
        return torch.cat(outputs)


def in_windows(predict: Predict, window: Window | None, read: Read | None = None) -> Predict:
    """Return `predict` for pieces as they are stored.

    That is `predict` itself for a model of images, which has no window, and `InWindows` otherwise.
    """
    return predict if window is None else InWindows(predict, window, read)


def as_clip(latents: Tensor) -> Tensor:
    """Return (..., pieces, c, h, w) as one piece, (..., 1, c, pieces, h, w)."""
    return latents.transpose(-4, -3).unsqueeze(-5)


def from_clip(latents: Tensor) -> Tensor:
    """Undo `as_clip`."""
    return latents.squeeze(-5).transpose(-4, -3)
