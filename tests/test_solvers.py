"""Inversion and sampling of a flow on Gaussian data, whose exact answer is known.

For clean latents of the distribution N(m, c^2), signal 1 - s and noise s, the latents at level s
have the variance D = (1 - s)^2 c^2 + s^2, the best prediction of noise - clean is
v(x, s) = (s - (1 - s) c^2) (x - (1 - s) m) / D - m, and its exact flow keeps u in
x = (1 - s) m + sqrt(D) u.
"""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from pnpvideo.models.batches import Batches
from pnpvideo.models.network import Batch
from pnpvideo.models.noise_schedule import NoiseSchedule, flow_schedule
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.sampling.invert import invert_latents, reconstruct_latents
from pnpvideo.sampling.solvers import (
    DDIM,
    FixedPoint,
    LookAhead,
    Midpoint,
    Solver,
    choose_solver,
)

MEAN, SPREAD = 0.3, 0.5
TEXT = PromptEmbeddings(hidden=torch.zeros(1, 1, 1, dtype=torch.float64))


class GaussianNetwork:
    """The best network for Gaussian data. It is given 1000 s, and has no layer to inject into."""

    device = torch.device("cpu")
    batch: Batch | None = None

    def __init__(self) -> None:
        self.timesteps: list[float] = []

    def predict(self, batch: Batch) -> Tensor:
        self.timesteps.append(batch.timestep)
        s = batch.timestep / 1000
        variance = (1 - s) ** 2 * SPREAD**2 + s**2
        share = (s - (1 - s) * SPREAD**2) / variance
        return share * (batch.latents - (1 - s) * MEAN) - MEAN


def even_schedule(steps: int, parts: int = 1) -> NoiseSchedule:
    return flow_schedule([1 - i / steps for i in range(steps + 1)], parts=parts)


def clean_latents(*piece: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(5, *(piece or (2, 3, 4)), generator=generator, dtype=torch.float64)
    return MEAN + SPREAD * draws


def exact(clean: Tensor, schedule: NoiseSchedule) -> Tensor:
    """The exact trajectory of clean latents, (T + 1, pieces, ...)."""
    u = (clean - MEAN) / SPREAD
    return torch.stack(
        [
            level.signal * MEAN + math.sqrt((level.signal * SPREAD) ** 2 + level.noise**2) * u
            for level in schedule.levels
        ]
    )


def invert(
    schedule: NoiseSchedule, solver: Solver, clean: Tensor | None = None, batch_size: int = 2
) -> Tensor:
    return invert_latents(
        GaussianNetwork(),  # type: ignore[arg-type]
        schedule,
        clean_latents() if clean is None else clean,
        TEXT,
        solver=solver,
        batches=Batches(batch_size),
    )


def sample(schedule: NoiseSchedule, noise: Tensor, solver: Solver | None = None) -> Tensor:
    return reconstruct_latents(
        GaussianNetwork(),  # type: ignore[arg-type]
        schedule,
        noise,
        TEXT,
        solver=solver or DDIM(),
        batches=Batches(2),
    )


def error_of(ours: Tensor, true: Tensor) -> float:
    return float((ours - true).abs().max())


def orders(errors: list[float]) -> list[float]:
    """The order of convergence between each number of steps and twice as many."""
    return [math.log2(a / b) for a, b in pairwise(errors)]


@pytest.mark.parametrize(
    ("solver", "order", "least"),
    [(DDIM(), 1, 0.02), (Midpoint(), 2, 1e-4), (Midpoint(reuses=True), 2, 1e-4)],
)
def test_sampling_converges_to_the_exact_flow(solver: Solver, order: int, least: float) -> None:
    errors = []
    for steps in (32, 64, 128):
        schedule = even_schedule(steps)
        true = exact(clean_latents(), schedule)
        errors.append(error_of(sample(schedule, true[0], solver)[-1], true[-1]))
    assert errors[-1] < least
    assert min(orders(errors)) > order - 0.2


@pytest.mark.parametrize(
    ("solver", "order", "least"),
    [
        (DDIM(), 1, 0.05),
        (DDIM(undone=True), 1, 0.05),
        (LookAhead(), 1, 0.05),
        (LookAhead(zero=True), 1, 0.05),
        (FixedPoint(predictions=6), 1, 0.05),
        (Midpoint(), 2, 1e-4),
        (Midpoint(reuses=True), 2, 1e-4),
    ],
)
def test_inversion_converges_to_the_exact_flow(solver: Solver, order: int, least: float) -> None:
    """At every level, not only at the last; midpoint and FireFlow have order 2 at least."""
    errors = []
    for steps in (32, 64, 128):
        schedule = even_schedule(steps)
        errors.append(error_of(invert(schedule, solver), exact(clean_latents(), schedule)))
    assert errors[-1] < least
    assert min(orders(errors)) > order - 0.2


def there_and_back(steps: int, solver: Solver) -> float:
    schedule = even_schedule(steps)
    back = sample(schedule, invert(schedule, solver)[0], solver)
    return float((back[-1] - clean_latents()).norm() / (clean_latents() - MEAN).norm())


def test_there_and_back() -> None:
    """The errors fall as 1/N for DDIM inversion, as 1/N^2 for look-ahead, and are nothing for the
    exact inverse of a step."""
    plain, ahead = (
        [there_and_back(steps, one) for steps in (16, 32, 64)] for one in (DDIM(), LookAhead())
    )
    assert orders(plain) == pytest.approx([1, 1], abs=0.2)
    assert orders(ahead) == pytest.approx([2, 2], abs=0.35)
    assert ahead[-1] < plain[-1] / 20
    assert there_and_back(8, FixedPoint(predictions=60)) < 1e-12


@pytest.mark.parametrize(
    ("solver", "few", "many"),
    [
        (DDIM(), 0.21, 0.027),
        (LookAhead(), 0.040, 0.00037),
        (Midpoint(), 0.0013, 2.5e-6),
        (Midpoint(reuses=True), 0.0091, 2.1e-5),
    ],
)
def test_there_and_back_in_8_and_64_steps(solver: Solver, few: float, many: float) -> None:
    """As another implementation measured, on other draws of these data."""
    for steps, error in ((8, few), (64, many)):
        schedule = even_schedule(steps)
        back = sample(schedule, invert(schedule, solver)[0], solver)[-1]
        assert error_of(back, clean_latents()) == pytest.approx(error, rel=0.2)


def test_ddim_inversion_of_one_step_by_hand() -> None:
    """Euler told the next level: z + (s' - s) v(z, s')."""
    schedule, clean = even_schedule(1), clean_latents()
    velocity = (clean - 0 * MEAN) - MEAN  # v(x, 1) = x - m
    torch.testing.assert_close(invert(schedule, DDIM())[0], clean + velocity, rtol=0, atol=1e-15)


def test_what_the_network_is_given() -> None:
    """The level that a step goes to, and in finer steps those in between; sampling levels stay."""
    network = GaussianNetwork()
    found = invert_latents(
        network,  # type: ignore[arg-type]
        even_schedule(2, parts=2),
        clean_latents(),
        TEXT,
        batches=Batches(5),
    )
    assert network.timesteps == [250.0, 500.0, 750.0, 1000.0]
    every = invert(even_schedule(4), DDIM())
    assert torch.equal(found, every[::2])


EVERY = [
    DDIM(),
    FixedPoint(predictions=3),
    LookAhead(),
    LookAhead(zero=True),
    Midpoint(),
    Midpoint(reuses=True),
]


@pytest.mark.parametrize("solver", EVERY)
def test_no_piece_depends_on_those_beside_it(solver: Solver) -> None:
    """A solver's state belongs to a batch; nothing of it reaches the next."""
    together, alone = (invert(even_schedule(4), solver, batch_size=size) for size in (5, 1))
    torch.testing.assert_close(together, alone, rtol=1e-13, atol=1e-13)


def test_pieces_may_be_clips() -> None:
    """With an axis of time, (channels, time, height, width), nothing else changes."""
    clips = clean_latents(2, 3, 4, 5)
    for solver in (DDIM(), FixedPoint(predictions=3)):
        found = invert(even_schedule(4), solver, clips)
        assert found.shape == (5, 5, 2, 3, 4, 5)
        flat = invert(even_schedule(4), solver, clips.view(5, 6, 4, 5))
        torch.testing.assert_close(found.view(5, 5, 6, 4, 5), flat, rtol=1e-13, atol=1e-13)
        back = sample(even_schedule(4), found[0])
        assert back.shape == found.shape


@pytest.mark.parametrize("solver", EVERY)
def test_progress_counts_predictions_of_pieces(solver: Solver) -> None:
    network, counts = GaussianNetwork(), list[int]()
    invert_latents(
        network,  # type: ignore[arg-type]
        even_schedule(4),
        clean_latents(),
        TEXT,
        solver=solver,
        batches=Batches(5),
        progress=counts.append,
    )
    assert len(network.timesteps) == solver.passes(4)
    assert sum(counts) == 5 * solver.passes(4)
    network, counts = GaussianNetwork(), []
    reconstruct_latents(
        network,  # type: ignore[arg-type]
        even_schedule(4),
        clean_latents(),
        TEXT,
        solver=solver,
        batches=Batches(5),
        progress=counts.append,
    )
    assert len(network.timesteps) == solver.passes_back(4)
    assert sum(counts) == 5 * solver.passes_back(4)


def test_the_solver_is_chosen_by_name_and_iterations() -> None:
    assert choose_solver(1) == DDIM()
    assert choose_solver(1, exact=True) == DDIM(undone=True)
    assert choose_solver(3) == choose_solver(3, "lookahead") == FixedPoint(predictions=3)
    assert choose_solver(1, "lookahead") == LookAhead()
    assert choose_solver(1, "lookahead", exact=True) == LookAhead(zero=True)
    assert choose_solver(2, "midpoint") == Midpoint()
    assert choose_solver(2, "fireflow") == Midpoint(reuses=True)
