"""The step between two noise levels, the same equation in both directions."""

import math

from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.models.noise_schedule import Level, PredictionType
from pnpvideo.options.method import PnPOptions


def first_steps(share: float, steps: int) -> int:
    """Return how many steps a first share of T is, rounded down except for float rounding."""
    return math.floor(round(share * steps, 9))


def step_at(level: float, steps: int) -> int:
    """Return the number of the step at a noise level, given as a share from 0 (clean) to 1 (noise).

    Level 1 is the first of T steps. The last step stands for all levels below its own.
    """
    return min(first_steps(1 - level, steps), steps - 1)


def first_step(options: PnPOptions) -> int:
    """Return the number of the step that sampling starts with; all T at strength 0 are left out.

    The strength of uniedit and flowedit is the share of the steps that they take: at least one, as
    the source would come back unchanged if a share of few steps were rounded down to none.
    """
    if options.injects:
        return step_at(options.start_level, options.steps)
    share = options.own_strength
    if share > 0 and options.method in ("flowalign", "steerflow"):
        share = 1.0
    return options.steps - max(first_steps(share, options.steps), int(share > 0))


def clean_and_noise(
    latents: Tensor, output: Tensor, level: Level, prediction_type: PredictionType
) -> tuple[Tensor, Tensor]:
    """Return the clean latents and the noise that a prediction sees in latents at their level.

    With a and s the level's signal and noise, latents are a clean + s noise; with a flow-matching
    model's output, noise - clean, that is solved for both.
    """
    a, s = level.signal, level.noise
    if prediction_type == "epsilon":
        return (latents - s * output) / a, output
    if prediction_type == "v_prediction":
        return a * latents - s * output, a * output + s * latents
    if prediction_type == "flow":
        return (latents - s * output) / (a + s), (latents + a * output) / (a + s)
    return output, (latents - a * output) / s


def step_variance(start: Level, end: Level, eta: float) -> float:
    """Return the variance of the noise that a step with this eta adds.

    eta**2 times that of latents at `end`, given the clean ones and those at `start`. With a and s
    the signal and noise of a level, and ' for those at `end`, latents at `start` are a/a' of those
    at `end` and noise of variance s^2 - (a s' / a')^2, so that variance is
    s'^2 (1 - (a s')^2 / (a' s)^2) (Kingma et al. 2021, "Variational Diffusion Models", appendix A).
    As (a s' / a')^2 is (a/a')^2 (power' - a'^2), this is s'^2 / s^2 (power - (a/a')^2 power'), with
    power = a^2 + s^2. For DDPM's levels, of power 1, it is Song et al. 2021, equation 16; with
    signal 1 throughout it is the ancestral step of Karras et al. 2022 (their code).
    """
    # In this order the powers of DDPM's levels, exactly 1, change no bit.
    share = start.power - start.signal_square / end.signal_square * end.power
    return eta**2 * end.noise_square / start.noise_square * share


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
    """Take one DDIM step from one noise level to another (Song et al. 2021, equation 12).

    To a level with less noise it denoises, to one with more it inverts. For a flow-matching model
    it is Euler's step: latents + (sigma' - sigma) * output.
    latents, output, noise: of one shape; output is the network's prediction at the latents.
    eta: 0 is deterministic; otherwise `noise` is needed (equation 16, see `step_variance`).
    """
    if prediction_type == "flow" and eta == 0 and start.sum == 1 == end.sum:
        # The same, rounded as diffusers' schedulers of flow matching round it.
        return latents + (end.noise - start.noise) * output
    clean, eps = clean_and_noise(latents, output, start, prediction_type)
    variance = step_variance(start, end, eta) if eta > 0 else 0.0
    result = end.signal * clean + math.sqrt(max(end.noise_square - variance, 0.0)) * eps
    return result if noise is None or eta == 0 else result + math.sqrt(variance) * noise


def undo_ddim_step(
    latents: Tensor, output: Tensor, start: Level, end: Level, prediction_type: PredictionType
) -> Tensor:
    """Return the latents that `ddim_step`, with this output and eta 0, takes to these latents."""
    # The step is linear in both.
    one, zero = latents.new_ones(()), latents.new_zeros(())
    of_latents = ddim_step(one, zero, start, end, prediction_type)
    of_output = ddim_step(zero, one, start, end, prediction_type)
    return (latents - of_output * output) / of_latents


def clean_of_step(before: Tensor, after: Tensor, start: Level, end: Level, *, eta: float) -> Tensor:
    """Return the clean latents that a step predicted, from the latents before and after it.

    before = a clean + s noise and after = a' clean + s' noise (a, s: signal and noise of the
    levels; Song et al. 2021, equation 12), solved for clean. At the clean end it is `after`.
    before, after: of one shape, at levels `start` and `end`. eta: of the step. InputError unless
    eta is 0: otherwise the step adds noise of its own, and the equations have no solution.
    """
    if eta > 0:
        raise InputError(
            f"eta is {eta:g}; the clean latents that a step predicts can be found for eta 0 only, "
            "as a step with eta adds noise to them"
        )
    below = start.noise * end.signal - end.noise * start.signal
    return (start.noise * after - end.noise * before) / below
