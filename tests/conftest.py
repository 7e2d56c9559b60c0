"""What several tests share: small real models and the reading of command-line runs."""

from collections.abc import Iterator

import pytest
import torch

# Each worker of pytest-xdist has a core; more threads than cores would only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
