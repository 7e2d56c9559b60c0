"""Solvers of inversion: how latents get from one noise level to the next noisier one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, linalg

from pnpvideo.models.noise_schedule import NoiseSchedule
from pnpvideo.sampling.schedule import ddim_step, undo_ddim_step

Predict = Callable[[Tensor, float], Tensor]
"""Returns the network's output for latents (pieces, ...) at a timestep."""

Advance = Callable[[Tensor, int], Tensor]
"""Returns the latents (pieces, ...) at an inversion level, given those at the level after it.

Levels are counted as in `NoiseSchedule`, noisiest first: `advance(z, i)` takes z from level i + 1
to level i.
"""


class Solver(Protocol):
    """A way from the clean end to noise, chosen once for a run.

    Each batch of pieces begins with an `Advance` of its own, which may keep what one step leaves to
    the next: the look-ahead and FireFlow solvers keep the last output. It may ask for any number of
    predictions, at any latents and timestep: midpoint and Heun ask for two. tests/test_solvers.py
    has a look-ahead and a midpoint solver written in this form.
    """

    @property
    def predictions(self) -> int:
        """The number of network predictions in a step, for progress bars."""

    def begin(self, schedule: NoiseSchedule, predict: Predict) -> Advance:
        """Return the steps of one batch of pieces."""


@dataclass(frozen=True, kw_only=True)
class DDIM:
    """DDIM inversion (Song et al. 2021, section 4.3; Tumanyan et al. 2022, section 3).

    Going to the level of timestep t, the network is evaluated at the latents of the level before,
    as if they were at t already.
    """

    predictions: int = 1

    def begin(self, schedule: NoiseSchedule, predict: Predict) -> Advance:
        levels, kind = schedule.inversion_levels, schedule.prediction_type

        def advance(z: Tensor, i: int) -> Tensor:
            output = predict(z, schedule.inversion_timesteps[i])
            return ddim_step(z, output, levels[i + 1], levels[i], kind)

        return advance


@dataclass(frozen=True, kw_only=True)
class FixedPoint:
    """The exact inverse of a sampling step, found by iteration.

    The network is evaluated at the latents found so far, again and again: a fixed-point iteration
    with Anderson acceleration (Pan et al. 2023, "Effective real image editing with accelerated
    iterative diffusion inversion", section 3). It starts from the last step's output, so only the
    first step evaluates the network at the latents of the level before, in place of an iteration.
    """

    predictions: int

    def begin(self, schedule: NoiseSchedule, predict: Predict) -> Advance:
        levels, kind = schedule.inversion_levels, schedule.prediction_type
        last_output: Tensor | None = None

        def advance(z: Tensor, i: int) -> Tensor:
            nonlocal last_output
            before, output, passes = z, last_output, self.predictions
            timestep, start, end = schedule.inversion_timesteps[i], levels[i + 1], levels[i]
            if output is None:
                output = predict(before, timestep)
                passes -= 1
            z = ddim_step(before, output, start, end, kind)
            acceleration = _Anderson()
            for _ in range(passes):
                output = predict(z, timestep)
                z = acceleration.next(z, undo_ddim_step(before, output, end, start, kind))
            last_output = output
            return z

        return advance


def choose_solver(iterations: int) -> Solver:
    """Return the solver for so many iterations in each step: 1 is plain DDIM inversion."""
    return DDIM() if iterations == 1 else FixedPoint(predictions=iterations)


class _Anderson:
    """Fixed-point iteration with Anderson acceleration of depth 1 (Walker and Ni 2011, section 1).

    Each piece has its own weight, so that it does not depend on the other pieces of its batch.
    """

    def __init__(self) -> None:
        self.last: tuple[Tensor, Tensor] | None = None

    def next(self, latents: Tensor, found: Tensor) -> Tensor:
        """Return where to evaluate next, after `found` was the result at `latents`.

        latents, found: (pieces, ...).
        """
        change, result = found - latents, found
        if self.last is not None:
            last_found, last_change = self.last
            turn = change - last_change
            size = linalg.vecdot(turn.flatten(1), turn.flatten(1)).clamp_min(1e-30)
            weight = linalg.vecdot(change.flatten(1), turn.flatten(1)) / size
            weight = weight.view(-1, *[1] * (found.ndim - 1))
            result = found - weight * (found - last_found)
        self.last = found, change
        return result
