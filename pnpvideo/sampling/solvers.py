"""Solvers: how latents get from one noise level to the next noisier one, and back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, linalg

from pnpvideo.models.noise_schedule import Level, Middle, NoiseSchedule
from pnpvideo.options.edit_method import SolverName
from pnpvideo.sampling.schedule import ddim_step, undo_ddim_step
from pnpvideo.sampling.velocity import move, velocity

Predict = Callable[[Tensor, float], Tensor]
"""Returns the network's output for latents (pieces, ...) at a timestep."""

Advance = Callable[[Tensor, int], Tensor]
"""Returns the latents (pieces, ...) at the other end of a step.

Levels are counted as in `NoiseSchedule`, noisiest first. Step i is between levels i and i + 1:
inversion takes latents from level i + 1 to level i, and sampling from level i to level i + 1.
"""


class Solver(Protocol):
    """A way from the clean end to noise and back, chosen once for a run.

    Each batch of pieces begins with an `Advance` of its own, which may keep what one step leaves to
    the next: the look-ahead and FireFlow keep the last output. It may ask for any number of
    predictions, at any latents and timestep.
    """

    def passes(self, steps: int) -> int:
        """Return the number of network predictions in so many steps of inversion."""

    def begin(self, schedule: NoiseSchedule, predict: Predict) -> Advance:
        """Return the steps of one batch of pieces, from the clean end to noise."""

    def passes_back(self, steps: int) -> int:
        """Return the number of network predictions in so many steps of the way back."""

    def begin_back(self, schedule: NoiseSchedule, predict: Predict) -> Advance:
        """Return the steps of one batch of pieces, from noise to the clean end."""


class _BackByDDIM:
    """The way back in DDIM steps, which are Euler's for a flow-matching model."""

    def passes_back(self, steps: int) -> int:
        return steps

    def begin_back(self, schedule: NoiseSchedule, predict: Predict) -> Advance:
        levels, kind = schedule.levels, schedule.prediction_type

        def advance(x: Tensor, i: int) -> Tensor:
            output = predict(x, schedule.timesteps[i])
            return ddim_step(x, output, levels[i], levels[i + 1], kind)

        return advance


@dataclass(frozen=True, kw_only=True)
class DDIM(_BackByDDIM):
    """DDIM inversion (Song et al. 2021, section 4.3; Tumanyan et al. 2022, section 3).

    Going to the level of timestep t, the network is evaluated at the latents of the level before,
    as if they were at t already.
    undone: take the latents that sampling would take back with the same output, for exact sources.
        That differs for v predictions only, whose meaning depends on the level.
    """

    undone: bool = False

    def passes(self, steps: int) -> int:
        return steps

    def begin(self, schedule: NoiseSchedule, predict: Predict) -> Advance:
        levels, kind = schedule.inversion_levels, schedule.prediction_type

        def advance(z: Tensor, i: int) -> Tensor:
            output = predict(z, schedule.inversion_timesteps[i])
            if self.undone:
                return undo_ddim_step(z, output, levels[i], levels[i + 1], kind)
            return ddim_step(z, output, levels[i + 1], levels[i], kind)

        return advance


@dataclass(frozen=True, kw_only=True)
class LookAhead(_BackByDDIM):
    """Uni-Inv (Jiao et al. 2025, "UniEdit-Flow").

    The network is evaluated where the last output leads to, at the level that the step goes to, and
    the step is the inverse of sampling's with that output. The first step looks ahead with the
    output at the clean end, which takes one more prediction. Euler steps back nearly undo it, so
    the error after inverting and sampling back falls with the square of the number of steps.
    zero: do not look ahead in the first step, which is then DDIM inversion's: the method's "zero
        initial", with which the trajectory says where each step evaluated the network.
    """

    zero: bool = False

    def passes(self, steps: int) -> int:
        return steps if self.zero else steps + 1

    def begin(self, schedule: NoiseSchedule, predict: Predict) -> Advance:
        levels, kind = schedule.inversion_levels, schedule.prediction_type
        last: Tensor | None = None

        def advance(z: Tensor, i: int) -> Tensor:
            nonlocal last
            start, end = levels[i + 1], levels[i]
            if last is None and not self.zero:
                last = predict(z, schedule.clean_timestep)
            ahead = z if last is None else ddim_step(z, last, start, end, kind)
            last = predict(ahead, schedule.inversion_timesteps[i])
            return undo_ddim_step(z, last, end, start, kind)

        return advance


@dataclass(frozen=True, kw_only=True)
class FixedPoint(_BackByDDIM):
    """The exact inverse of a sampling step, found by iteration.

    The network is evaluated at the latents found so far, again and again: a fixed-point iteration
    with Anderson acceleration (Pan et al. 2023, "Effective real image editing with accelerated
    iterative diffusion inversion", section 3). It starts from the last step's output, so only the
    first step evaluates the network at the latents of the level before, in place of an iteration.
    It is the look-ahead with more evaluations.
    """

    predictions: int

    def passes(self, steps: int) -> int:
        return steps * self.predictions

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


@dataclass(frozen=True, kw_only=True)
class Midpoint:
    """Steps along the velocity at their middle, of second order (RF-Solver, Wang et al. 2024,
    equation 9). The middle is found with the velocity at the start.

    reuses: find the middle with the velocity at the last step's middle instead (FireFlow, Deng et
        al. 2024, algorithm 1), which takes one prediction a step and one more in all.
    """

    reuses: bool = False

    def passes(self, steps: int) -> int:
        return steps + 1 if self.reuses else 2 * steps

    passes_back = passes

    def begin(self, schedule: NoiseSchedule, predict: Predict) -> Advance:
        timesteps = (*schedule.inversion_timesteps, schedule.clean_timestep)
        levels, middles = schedule.inversion_levels, schedule.inversion_middles
        step = self._step(schedule, predict)

        def advance(z: Tensor, i: int) -> Tensor:
            return step(z, timesteps[i + 1], levels[i + 1], middles[i], levels[i])

        return advance

    def begin_back(self, schedule: NoiseSchedule, predict: Predict) -> Advance:
        levels, step = schedule.levels, self._step(schedule, predict)

        def advance(x: Tensor, i: int) -> Tensor:
            timestep, middle = schedule.timesteps[i], schedule.middles[i]
            return step(x, timestep, levels[i], middle, levels[i + 1])

        return advance

    def _step(
        self, schedule: NoiseSchedule, predict: Predict
    ) -> Callable[[Tensor, float, Level, Middle, Level], Tensor]:
        """Return the steps of one batch, in either direction."""
        kind = schedule.prediction_type
        last: Tensor | None = None

        def step(z: Tensor, timestep: float, start: Level, middle: Middle, end: Level) -> Tensor:
            nonlocal last
            along = last if self.reuses else None
            if along is None:
                along = velocity(z, predict(z, timestep), start, kind)
            half = move(z, along, start, middle.level)
            last = velocity(half, predict(half, middle.timestep), middle.level, kind)
            return move(z, last, start, end)

        return step


def choose_solver(iterations: int = 1, name: SolverName = "ddim", *, exact: bool = False) -> Solver:
    """Return a solver.

    iterations: predictions in each step of ddim and lookahead; more than 1 make both iterate to the
    exact inverse of a step. Midpoint and fireflow have their own number. exact: whether the
    trajectory must be what sampling with `exact_source` returns.
    """
    if name in ("midpoint", "fireflow"):
        return Midpoint(reuses=name == "fireflow")
    if iterations > 1:
        return FixedPoint(predictions=iterations)
    return LookAhead(zero=exact) if name == "lookahead" else DDIM(undone=exact)


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
