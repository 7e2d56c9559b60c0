"""The noise levels of a run, what a network is given at each, and what it predicts.

Each family of models makes its own schedule. Nothing here knows a network or a scheduler.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

PredictionType = Literal["epsilon", "v_prediction", "sample", "flow"]
"""The output of a network: the noise, signal * noise - noise level * clean (Salimans and Ho
2022), the clean latents, or the velocity noise - clean (Lipman et al. 2023)."""

TIMESTEPS_PER_SIGMA = 1000
"""Most flow-matching networks are given 1000 sigma as their timestep."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """A noise level: latents are signal * clean + noise * eps, eps being of variance 1.

    The squares are stored. For DDPM's models (Ho et al. 2020) they are alpha-bar and 1 - alpha-bar.
    """

    signal_square: float
    noise_square: float

    @classmethod
    def of(cls, *, signal: float, noise: float) -> "Level":
        """Return the level of these two factors, which `signal` and `noise` give back exactly."""
        return cls(signal_square=signal**2, noise_square=noise**2)

    @property
    def signal(self) -> float:
        return math.sqrt(self.signal_square)

    @property
    def noise(self) -> float:
        return math.sqrt(self.noise_square)

    @property
    def power(self) -> float:
        """The variance of latents whose clean part has variance 1: exactly 1 for DDPM's models."""
        return self.signal_square + self.noise_square

    @property
    def sum(self) -> float:
        """signal + noise, by which latents are divided to move along straight lines: then they are
        (1 - s) clean + s eps, s being `share`.
        """
        return self.signal + self.noise

    @property
    def share(self) -> float:
        """s, the share of noise in latents: 0 for clean ones, 1 for noise alone."""
        return self.noise / self.sum


@dataclass(frozen=True, kw_only=True)
class Middle:
    """The middle of a step: where the share of noise is halfway between those of its two ends."""

    timestep: float
    level: Level


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """The steps of sampling and of inversion: their noise levels and timesteps.

    timesteps: T numbers that the network is given, in its own unit, noisiest first: 981, 961, ...,
        1 for Stable Diffusion, 1000 sigma for most flow-matching models.
    levels: T + 1: at each timestep, then at the clean end.
    inversion_timesteps, inversion_levels: the same for inversion, which may take finer steps. Every
        sampling level is among them.
    middles, inversion_middles: the middle of each step, for solvers that evaluate the network
        there; empty if the family has none.
    clean_timestep: what the network would be given at the clean end.
    """

    timesteps: tuple[float, ...]
    levels: tuple[Level, ...]
    inversion_timesteps: tuple[float, ...]
    inversion_levels: tuple[Level, ...]
    prediction_type: PredictionType
    middles: tuple[Middle, ...] = ()
    inversion_middles: tuple[Middle, ...] = ()
    clean_timestep: float = 0.0

    def __post_init__(self) -> None:
        for timesteps, levels in (
            (self.timesteps, self.levels),
            (self.inversion_timesteps, self.inversion_levels),
        ):
            if len(levels) != len(timesteps) + 1:
                raise ValueError(
                    f"{len(timesteps)} timesteps need {len(timesteps) + 1} levels, the last of "
                    f"them the clean end, not {len(levels)}"
                )

    @cached_property
    def inversion_places(self) -> tuple[int, ...]:
        """For each of the T sampling levels, its index among the inversion levels."""
        places = {level: place for place, level in enumerate(self.inversion_levels[:-1])}
        missing = [level for level in self.levels[:-1] if level not in places]
        if missing:
            raise ValueError(f"no step of the inversion ends at the sampling level {missing[0]}")
        return tuple(places[level] for level in self.levels[:-1])

    def timestep_from(self, step: int) -> float:
        """Return the timestep of a step, or minus infinity for the end, after the last step.

        Steps from this one on have timesteps that are at most as large.
        """
        return self.timesteps[step] if step < len(self.timesteps) else -math.inf


def flow_schedule(
    sigmas: Sequence[float],
    timestep_of: Callable[[float], float] = lambda sigma: TIMESTEPS_PER_SIGMA * sigma,
    *,
    parts: int = 1,
) -> NoiseSchedule:
    """Return the schedule of a flow-matching model: signal 1 - sigma, noise sigma (rectified flow,
    Liu et al. 2023, equation 1; Esser et al. 2024, section 2).

    sigmas: T + 1 noise levels as the model's own scheduler gives them, descending from at most 1
        to 0. timestep_of: what the network is given at a sigma; by default 1000 sigma.
    parts: how many steps of inversion one step of sampling is cut into, evenly in sigma.
    """
    if sigmas[-1] != 0 or sigmas[0] > 1 or any(low >= high for high, low in pairwise(sigmas)):
        raise ValueError(f"sigmas must descend from at most 1 to 0, not {list(sigmas)}")
    fine = [
        high + (low - high) * part / parts
        for high, low in pairwise(sigmas)
        for part in range(parts)
    ]

    def levels(noises: Sequence[float]) -> tuple[Level, ...]:
        return tuple(Level.of(signal=1 - sigma, noise=sigma) for sigma in noises)

    def middles(noises: Sequence[float]) -> tuple[Middle, ...]:
        halves = [(high + low) / 2 for high, low in pairwise(noises)]
        return tuple(
            Middle(timestep=timestep_of(half), level=level)
            for half, level in zip(halves, levels(halves), strict=True)
        )

    return NoiseSchedule(
        timesteps=tuple(timestep_of(sigma) for sigma in sigmas[:-1]),
        levels=levels(sigmas),
        inversion_timesteps=tuple(timestep_of(sigma) for sigma in fine),
        inversion_levels=levels([*fine, 0.0]),
        prediction_type="flow",
        middles=middles(sigmas),
        inversion_middles=middles([*fine, 0.0]),
        clean_timestep=timestep_of(0.0),
    )
