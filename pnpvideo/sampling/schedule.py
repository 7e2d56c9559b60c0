"""Noise levels and the step between two of them, the same equation in both directions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from diffusers import DDIMScheduler
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction", "sample"]


@dataclass(frozen=True, kw_only=True)
class Level:
    """A noise level: latents are signal * clean + noise * eps, eps being of variance 1.

    The squares are kept. For DDPM's models (Ho et al. 2020) they are alpha-bar and 1 - alpha-bar.
    """

    signal_square: float
    noise_square: float

    @property
    def signal(self) -> float:
        return math.sqrt(self.signal_square)

    @property
    def noise(self) -> float:
        return math.sqrt(self.noise_square)


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """The timesteps of sampling and the noise level at each.

    timesteps: T descending timesteps of the model, such as 981, 961, ..., 1.
    levels: T + 1: at each timestep, then at the clean end.
    inversion_timesteps, inversion_levels: the same for inversion; the sampling timesteps are among
        them.
    """

    timesteps: tuple[float, ...]
    levels: tuple[Level, ...]
    inversion_timesteps: tuple[float, ...]
    inversion_levels: tuple[Level, ...]
    prediction_type: PredictionType


def make_schedule(
    scheduler_config: Mapping[str, object], steps: int, inversion_steps: int
) -> NoiseSchedule:
    """The DDIM schedule for a model's scheduler configuration, of whichever class that is.

    inversion_steps: a multiple of steps; each interval between two sampling timesteps is cut into
        equal parts, so that no sampling timestep is missed.
    """
    scheduler = DDIMScheduler.from_config(scheduler_config, clip_sample=False, thresholding=False)
    scheduler.set_timesteps(steps)
    timesteps = [int(t) for t in scheduler.timesteps]
    table = scheduler.alphas_cumprod.double()
    clean = 1.0 if scheduler.config.set_alpha_to_one else float(table[0])

    ratio = inversion_steps // steps
    # The clean end stands one step below the last timestep.
    gap = timesteps[-2] - timesteps[-1] if steps > 1 else timesteps[0] + 1
    ends = [*timesteps[1:], timesteps[-1] - gap]
    fine = [
        round(high + (low - high) * part / ratio)
        for high, low in zip(timesteps, ends, strict=True)
        for part in range(ratio)
    ]
    fine = [t for t in fine if t >= 0]

    def levels(at: list[int]) -> tuple[Level, ...]:
        alphas = (*(float(table[t]) for t in at), clean)
        return tuple(Level(signal_square=alpha, noise_square=1 - alpha) for alpha in alphas)

    return NoiseSchedule(
        timesteps=tuple(timesteps),
        levels=levels(timesteps),
        inversion_timesteps=tuple(fine),
        inversion_levels=levels(fine),
        prediction_type=scheduler.config.prediction_type,
    )


def first_steps(share: float, steps: int) -> int:
    """How many steps a first share of T is, rounded down but for the rounding of floats."""
    return math.floor(round(share * steps, 9))


def clean_and_noise(
    latents: Tensor, output: Tensor, level: Level, prediction_type: PredictionType
) -> tuple[Tensor, Tensor]:
    """What a prediction takes the latents for: clean ones, and noise, at their level."""
    a, s = level.signal, level.noise
    if prediction_type == "epsilon":
        return (latents - s * output) / a, output
    if prediction_type == "v_prediction":
        return a * latents - s * output, a * output + s * latents
    return output, (latents - a * output) / s


def ddim_step(
    latents: Tensor,
    output: Tensor,
    start: Level,
    end: Level,
    prediction_type: PredictionType,
    *,
    eta: float = 0.0,
    noise: Tensor | None = None,
) -> Tensor:
    """One DDIM step from one noise level to another (Song et al. 2021, equation 12).

    To a level with less noise it denoises, to one with more it inverts.
    latents, output, noise: of one shape; output is the network's prediction at the latents.
    eta: 0 is deterministic; otherwise `noise` is needed (equation 16).
    """
    clean, eps = clean_and_noise(latents, output, start, prediction_type)
    variance = 0.0
    if eta > 0:
        share = 1 - start.signal_square / end.signal_square
        variance = eta**2 * end.noise_square / start.noise_square * share
    result = end.signal * clean + math.sqrt(max(end.noise_square - variance, 0.0)) * eps
    return result if noise is None or eta == 0 else result + math.sqrt(variance) * noise


def undo_ddim_step(
    latents: Tensor, output: Tensor, start: Level, end: Level, prediction_type: PredictionType
) -> Tensor:
    """The latents that `ddim_step`, with this output and eta 0, takes to these latents."""
    # The step is linear in both.
    one, zero = latents.new_ones(()), latents.new_zeros(())
    of_latents = ddim_step(one, zero, start, end, prediction_type)
    of_output = ddim_step(zero, one, start, end, prediction_type)
    return (latents - of_output * output) / of_latents
