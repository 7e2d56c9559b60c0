"""Noise levels and the DDIM step between two of them, the same equation in both directions."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from diffusers import DDIMScheduler
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction", "sample"]


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """The timesteps of sampling and the noise level at each.

    timesteps: T descending training timesteps, such as 981, 961, ..., 1.
    alphas: T + 1 values of alpha-bar (Ho et al. 2020): at each timestep, then at the clean end.
    inversion_timesteps, inversion_alphas: the same for inversion; every k-th from the first is a
        sampling timestep.
    inversion_ratio: k.
    """

    timesteps: tuple[int, ...]
    alphas: tuple[float, ...]
    inversion_timesteps: tuple[int, ...]
    inversion_alphas: tuple[float, ...]
    inversion_ratio: int
    prediction_type: PredictionType


def make_schedule(scheduler_config: Any, steps: int, inversion_steps: int) -> NoiseSchedule:
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

    def alphas(at: list[int]) -> tuple[float, ...]:
        return (*(float(table[t]) for t in at), clean)

    return NoiseSchedule(
        timesteps=tuple(timesteps),
        alphas=alphas(timesteps),
        inversion_timesteps=tuple(fine),
        inversion_alphas=alphas(fine),
        inversion_ratio=ratio,
        prediction_type=scheduler.config.prediction_type,
    )


def ddim_step(
    latents: Tensor,
    output: Tensor,
    alpha_from: float,
    alpha_to: float,
    prediction_type: PredictionType,
    *,
    eta: float = 0.0,
    noise: Tensor | None = None,
) -> Tensor:
    """One DDIM step from noise level alpha_from to alpha_to (Song et al. 2021, equation 12).

    With alpha_to above alpha_from it denoises, below it inverts.
    latents, output, noise: of one shape; output is the network's prediction at the latents.
    eta: 0 is deterministic; otherwise `noise` is needed (equation 16).
    """
    a, s = math.sqrt(alpha_from), math.sqrt(1 - alpha_from)
    if prediction_type == "epsilon":
        clean, eps = (latents - s * output) / a, output
    elif prediction_type == "v_prediction":
        clean, eps = a * latents - s * output, a * output + s * latents
    else:
        clean, eps = output, (latents - a * output) / s
    variance = 0.0
    if eta > 0:
        variance = eta**2 * (1 - alpha_to) / (1 - alpha_from) * (1 - alpha_from / alpha_to)
    result = math.sqrt(alpha_to) * clean + math.sqrt(max(1 - alpha_to - variance, 0.0)) * eps
    return result if noise is None or eta == 0 else result + math.sqrt(variance) * noise


def undo_ddim_step(
    latents: Tensor,
    output: Tensor,
    alpha_from: float,
    alpha_to: float,
    prediction_type: PredictionType,
) -> Tensor:
    """The latents that `ddim_step`, with this output and eta 0, takes to these latents."""
    # The step is linear in both.
    one, zero = latents.new_ones(()), latents.new_zeros(())
    of_latents = ddim_step(one, zero, alpha_from, alpha_to, prediction_type)
    of_output = ddim_step(zero, one, alpha_from, alpha_to, prediction_type)
    return (latents - of_output * output) / of_latents
