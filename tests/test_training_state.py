"""Training goes on from a checkpoint as if it had never stopped, and updates as its papers say."""

from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn

from tools.train.state import TrainingState, checkpoints


def new_state(*, with_muon: bool = True, warmup: int = 4) -> TrainingState:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 2), nn.Flatten(), nn.Linear(20, 4), nn.Linear(4, 8))
    model.to(memory_format=torch.channels_last)
    hidden = [model[0].weight, model[2].weight] if with_muon else []
    return TrainingState(model, learning_rate=1e-2, warmup=warmup, decay=0.9, hidden=hidden)  # type: ignore[arg-type]


def given(step: int) -> Tensor:
    return torch.randn(8, 3, 3, 3, generator=Generator().manual_seed(step))


def train(state: TrainingState, until: int) -> None:
    while state.step < until:
        loss = state.model(given(state.step)).square().mean()
        state.update(loss, factor=1 - state.step / 20)


@pytest.mark.parametrize("with_muon", [False, True])
def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path, with_muon: bool) -> None:
    unbroken = new_state(with_muon=with_muon)
    train(unbroken, 12)
    broken = new_state(with_muon=with_muon)
    for until in (3, 5, 7):
        train(broken, until)
        broken.save(tmp_path, "unet")
    resumed = new_state(with_muon=with_muon)
    resumed.load(checkpoints(tmp_path, "unet")[-1])
    train(resumed, 12)
    assert len(checkpoints(tmp_path, "unet")) == 2
    for name, value in unbroken.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])
        assert torch.equal(unbroken.average[name], resumed.average[name])


def orthogonal(gradient: Tensor) -> Tensor:
    """Jordan et al. 2024: five steps of a Newton-Schulz iteration, in float64."""
    x = gradient.double() / gradient.double().norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


def test_muon_moves_hidden_weights_by_orthogonal_matrices() -> None:
    """Scaled by 0.2 of the longer side's root, as in equation 4 of Liu et al. 2025."""
    state = new_state(warmup=1)
    weights = [state.model.get_parameter(f"{number}.weight") for number in (0, 2)]
    before = [value.detach().clone() for value in weights]
    grown = torch.autograd.grad(state.model(given(0)).square().mean(), weights)
    state.update(state.model(given(0)).square().mean())
    for value, old, gradient in zip(weights, before, grown, strict=True):
        # The first step with Nesterov's momentum has the direction of the gradient itself.
        matrix = gradient.flatten(1)
        length = 1e-2 * 0.2 * max(matrix.shape) ** 0.5
        moved = (old * (1 - 1e-2 * 0.01) - value.detach()).flatten(1) / length
        # torch iterates in bfloat16.
        assert float((moved - orthogonal(matrix)).norm() / moved.norm()) < 0.02


def test_the_learning_rate_rises_from_where_the_optimisers_began() -> None:
    state = new_state()
    state.step = state.began = 100
    rates = []
    for _ in range(5):
        state.update(state.model(given(state.step)).square().mean())
        rates.append(state.optimizers["muon"].param_groups[0]["lr"])
    assert rates == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])
    assert rates[-1] == state.optimizers["adamw"].param_groups[0]["lr"]
