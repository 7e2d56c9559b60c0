"""The steps of a run, each taken for some of its pieces at a time."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import torch
from torch import Tensor

from pnpvideo.models.batches import Batches
from pnpvideo.models.noise_schedule import NoiseSchedule
from pnpvideo.options.method import PnPOptions
from pnpvideo.sampling.guidance import Guidance
from pnpvideo.sampling.passes import Pass, plan_alone
from pnpvideo.sampling.windows import Scenes
from pnpvideo.storage.trajectory import Trajectory

OnPrediction = Callable[[int, Tensor], None]
"""Called with step and the clean latents (prompts, pieces, c, h, w) that it expects."""


@dataclass(frozen=True, kw_only=True)
class Common:
    """The values that the steps of every method need.

    scenes: for a video model; None: pieces go alone, or share attention.
    predicted: receives the clean latents that each step expects, (prompts, pieces, c, h, w), and is
    given to its function; outside the span it stays as it is.
    """

    device: torch.device
    dtype: torch.dtype
    schedule: NoiseSchedule
    trajectory: Trajectory
    guidance: Guidance
    options: PnPOptions
    span: range
    batches: Batches
    scenes: Scenes | None
    predicted: tuple[Tensor, OnPrediction] | None


@dataclass(frozen=True, kw_only=True)
class Steps(Common, ABC):
    """The steps of one run."""

    def of(self, span: range) -> Self:
        """Return the steps of these pieces alone."""
        return replace(self, span=span)

    def run(self, x: Tensor, i: int, noise: Tensor | None) -> Iterator[int]:
        """Take x through step i, in place; yields how many pieces are done, some at a time.

        x: (prompts, pieces, c, h, w). noise: the step's, (pieces, c, h, w), or one for all pieces,
        (c, h, w); None if the step takes none.
        """
        for frame_pass in self.passes(i):
            advance = partial(self._advance, x, i, noise, frame_pass)
            if frame_pass.role in ("keyframes", "scene"):
                # They attend to one another, so they go together.
                yield advance(slice(None))
            else:
                yield from self.batches.run(len(frame_pass.frames), advance)
        if self.predicted is not None:
            clean, show = self.predicted
            show(i, clean)

    def passes(self, i: int) -> Iterator[Pass]:
        """Yield the passes of step i."""
        if self.scenes is None:
            return plan_alone(self.span, self.batches.size)
        scenes = self.scenes.within(self.span)
        return (Pass(frames=tuple(scene), role="scene") for scene in scenes)

    @abstractmethod
    def step(self, target: Tensor, i: int, noise: Tensor | None, frame_pass: Pass) -> Tensor:
        """Return the latents of a pass after step i, (prompts, pieces, c, h, w).

        target: those before it, and noise: the step's of the same pieces, on the network's device.
        """

    def expect(self, clean: Tensor, places: slice | Sequence[int]) -> None:
        """Keep the clean latents that a step expects of some pieces."""
        if self.predicted is not None:
            all_clean, _ = self.predicted
            all_clean[:, places] = clean.to(all_clean)

    def _advance(
        self, x: Tensor, i: int, noise: Tensor | None, frame_pass: Pass, part: slice
    ) -> int:
        """Take part of a pass's pieces through the step; returns how many they are."""
        frame_pass = frame_pass.part(part)
        places = frame_pass.places
        if noise is not None:
            noise = (noise[places] if noise.ndim == x.ndim - 1 else noise).to(self.device)
        after = self.step(x[:, places].to(self.device), i, noise, frame_pass)
        x[:, places] = after.to(x.device)
        return frame_pass.count
