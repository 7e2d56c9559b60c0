"""Training goes on from a checkpoint as if it had never stopped."""

from pathlib import Path

import torch
from torch import Generator, nn

from tools.train.state import TrainingState, checkpoints


def new_state() -> TrainingState:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    return TrainingState(model, learning_rate=1e-2, warmup=4, decay=0.9)


def train(state: TrainingState, until: int) -> None:
    while state.step < until:
        given = torch.randn(8, 3, generator=Generator().manual_seed(state.step))
        state.update(state.model(given).square().mean(), factor=1 - state.step / 20)


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    unbroken = new_state()
    train(unbroken, 12)
    broken = new_state()
    for until in (3, 5, 7):
        train(broken, until)
        broken.save(tmp_path, "unet")
    resumed = new_state()
    resumed.load(checkpoints(tmp_path, "unet")[-1])
    train(resumed, 12)
    assert len(checkpoints(tmp_path, "unet")) == 2
    for name, value in unbroken.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])
        assert torch.equal(unbroken.average[name], resumed.average[name])
