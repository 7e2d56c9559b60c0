"""The noise schedule of Stable Diffusion: DDIM's steps through a table of betas."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from diffusers import DDIMScheduler

from pnpvideo.errors import InputError
from pnpvideo.models.noise_schedule import Level, Middle, NoiseSchedule


def make_schedule(
    scheduler_config: Mapping[str, object],
    steps: int,
    inversion_steps: int,
    own: Sequence[int] | None = None,
) -> NoiseSchedule:
    """Return the DDIM schedule for a model's scheduler configuration, whatever its class.

    inversion_steps: a multiple of steps; each interval between two sampling timesteps is cut into
        equal parts, so that inversion passes through every sampling timestep.
    own: falling timesteps in place of the scheduler's, one for each step. InputError if they are
        too close to be cut.
    """
    scheduler = DDIMScheduler.from_config(scheduler_config, clip_sample=False, thresholding=False)
    scheduler.set_timesteps(steps)
    timesteps = [int(t) for t in scheduler.timesteps] if own is None else list(own)
    table = scheduler.alphas_cumprod.double()
    clean = 1.0 if scheduler.config.set_alpha_to_one else float(table[0])
    fine = _finer(timesteps, inversion_steps // steps)
    if own is not None and any(high <= low for high, low in pairwise(fine)):
        raise InputError(
            f"timesteps are too close to cut each step into {inversion_steps // steps} of "
            "inversion; leave out inversion_steps"
        )

    def levels(at: Sequence[int]) -> tuple[Level, ...]:
        alphas = (*(float(table[t]) for t in at), clean)
        return tuple(Level(signal_square=alpha, noise_square=1 - alpha) for alpha in alphas)

    shares = [
        Level(signal_square=float(alpha), noise_square=1 - float(alpha)).share for alpha in table
    ]

    def middles(at: Sequence[int]) -> tuple[Middle, ...]:
        return tuple(_middle(*ends, shares) for ends in pairwise(levels(at)))

    return NoiseSchedule(
        timesteps=tuple(timesteps),
        levels=levels(timesteps),
        inversion_timesteps=tuple(fine),
        inversion_levels=levels(fine),
        prediction_type=scheduler.config.prediction_type,
        middles=middles(timesteps),
        inversion_middles=middles(fine),
    )


def _middle(start: Level, end: Level, shares: Sequence[float]) -> Middle:
    """Return the middle of a step, at a timestep between whole numbers.

    shares: the shares of noise in the table, by timestep.
    """
    share = (start.share + end.share) / 2
    signal_square = (1 - share) ** 2 / ((1 - share) ** 2 + share**2)
    level = Level(signal_square=signal_square, noise_square=1 - signal_square)
    timestep = float(np.interp(share, shares, np.arange(len(shares))))
    return Middle(timestep=timestep, level=level)


def _finer(timesteps: Sequence[int], parts: int) -> list[int]:
    """Return timesteps with each interval cut into parts, rounded to the table's whole numbers."""
    # The clean end stands one step below the last timestep.
    gap = timesteps[-2] - timesteps[-1] if len(timesteps) > 1 else timesteps[0] + 1
    ends = [*timesteps[1:], timesteps[-1] - gap]
    fine = [
        round(high + (low - high) * part / parts)
        for high, low in zip(timesteps, ends, strict=True)
        for part in range(parts)
    ]
    return [t for t in fine if t >= 0]
