"""The step between two noise levels, for every kind of prediction and every kind of level."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.models.noise_schedule import Level, PredictionType
from pnpvideo.sampling.schedule import (
    clean_and_noise,
    clean_of_step,
    ddim_step,
    step_variance,
    undo_ddim_step,
)

KINDS: tuple[PredictionType, ...] = ("epsilon", "v_prediction", "sample", "flow")
LEVELS = {
    "ddpm": (
        Level(signal_square=0.2, noise_square=0.8),
        Level(signal_square=0.7, noise_square=0.3),
    ),
    "flow": (Level.of(signal=0.2, noise=0.8), Level.of(signal=0.45, noise=0.55)),
    "variance exploding": (Level.of(signal=1, noise=9.0), Level.of(signal=1, noise=2.5)),
}


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def output_of(clean: Tensor, noise: Tensor, level: Level, kind: PredictionType) -> Tensor:
    """Return the prediction of a perfect network of a kind."""
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return level.signal * noise - level.noise * clean
    return clean if kind == "sample" else noise - clean


def assert_close(ours: Tensor, expected: Tensor, tolerance: float = 1e-13) -> None:
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", LEVELS)
def test_steps_of_a_perfect_network(kind: PredictionType, levels: str) -> None:
    """Clean latents and noise are found; a step goes to the same two at the other level."""
    if kind == "v_prediction" and levels != "ddpm":
        return  # v is defined for levels whose squares sum to 1 (Salimans and Ho 2022).
    clean, noise = draw(0, 2, 4, 5, 5), draw(1, 2, 4, 5, 5)
    for start, end in (LEVELS[levels], LEVELS[levels][::-1]):
        before = start.signal * clean + start.noise * noise
        output = output_of(clean, noise, start, kind)
        found = clean_and_noise(before, output, start, kind)
        assert_close(found[0], clean)
        assert_close(found[1], noise)
        after = ddim_step(before, output, start, end, kind)
        assert_close(after, end.signal * clean + end.noise * noise)
        assert_close(undo_ddim_step(after, output, start, end, kind), before)
        assert_close(clean_of_step(before, after, start, end, eta=0), clean)


def test_with_flow_the_step_is_eulers() -> None:
    latents, velocity = draw(2, 3, 4, 5, 5), draw(3, 3, 4, 5, 5)
    sigmas = [1.0, 0.97, 0.8123456789, 0.5, 1 / 3, 0.01, 0.0]
    levels = [Level.of(signal=1 - sigma, noise=sigma) for sigma in sigmas]
    for i in range(len(sigmas) - 1):
        for a, b in ((i, i + 1), (i + 1, i)):
            ours = ddim_step(latents, velocity, levels[a], levels[b], "flow")
            assert_close(ours, latents + (sigmas[b] - sigmas[a]) * velocity, 2e-15)
            undone = undo_ddim_step(ours, velocity, levels[a], levels[b], "flow")
            assert_close(undone, latents, 2e-15)


def test_a_level_gives_back_its_factors_exactly() -> None:
    for number in range(1001):
        sigma = number / 1000
        level = Level.of(signal=1 - sigma, noise=sigma)
        assert (level.signal, level.noise) == (1 - sigma, sigma)


def test_etas_variance_for_ddpm_is_bit_for_bit_that_of_song_et_al() -> None:
    """Equation 16 as it was written before other levels were known."""
    generator = torch.Generator().manual_seed(4)
    alphas = torch.rand(2000, generator=generator, dtype=torch.float64).tolist()
    alphas += [1e-9, 1e-4, 0.00466, 0.5, 0.9991, 1.0]
    for low, high in pairwise(alphas):
        start, end = (Level(signal_square=x, noise_square=1 - x) for x in sorted((low, high)))
        assert start.power == end.power == 1
        for eta in (0.3, 1.0):
            share = 1 - start.signal_square / end.signal_square
            expected = eta**2 * end.noise_square / start.noise_square * share
            assert step_variance(start, end, eta) == expected


@pytest.mark.parametrize("levels", LEVELS)
def test_etas_variance_is_that_of_the_posterior(levels: str) -> None:
    """From the covariance of latents at both levels, given clean ones: latents at `start` are
    those at `end`, scaled, with noise of their own."""
    start, end = LEVELS[levels]
    scale = start.signal / end.signal
    shared = scale * end.noise**2
    posterior = end.noise**2 - shared**2 / start.noise**2
    assert step_variance(start, end, 1.0) == pytest.approx(posterior, rel=1e-13)
    assert step_variance(start, end, 0.5) == pytest.approx(posterior / 4, rel=1e-13)


def test_etas_variance_with_growing_noise_is_the_ancestral_step() -> None:
    """k-diffusion's get_ancestral_step."""
    start, end = LEVELS["variance exploding"]
    up = end.noise**2 * (start.noise**2 - end.noise**2) / start.noise**2
    assert step_variance(start, end, 1.0) == pytest.approx(up, rel=1e-13)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_steps_with_eta_keep_the_marginals(levels: str, eta: float) -> None:
    start, end = LEVELS[levels]
    clean, noise, fresh = torch.full((400_000,), 0.7).double(), draw(5, 400_000), draw(6, 400_000)
    before = start.signal * clean + start.noise * noise
    after = ddim_step(before, noise, start, end, "epsilon", eta=eta, noise=fresh)
    assert after.mean().item() == pytest.approx(end.signal * 0.7, abs=4 * end.noise / 600)
    assert after.std().item() == pytest.approx(end.noise, rel=0.01)


def test_the_first_step_from_nothing_but_noise() -> None:
    """With eta 1 the noise is replaced; the flow model's first level has no signal."""
    start, end = Level.of(signal=0, noise=1), Level.of(signal=0.25, noise=0.75)
    assert step_variance(start, end, 1.0) == end.noise_square


def test_at_the_clean_end_the_clean_latents_of_a_step_are_its_result() -> None:
    before, after = draw(7, 2, 4, 3, 3), draw(8, 2, 4, 3, 3)
    for end in (Level(signal_square=1.0, noise_square=0.0), Level.of(signal=1, noise=0)):
        assert_close(clean_of_step(before, after, LEVELS["ddpm"][0], end, eta=0), after)


def test_a_step_with_eta_does_not_show_its_clean_latents() -> None:
    before, after = draw(7, 2, 4, 3, 3), draw(8, 2, 4, 3, 3)
    with pytest.raises(InputError, match=r"eta is 0\.3; the clean latents"):
        clean_of_step(before, after, *LEVELS["ddpm"], eta=0.3)
