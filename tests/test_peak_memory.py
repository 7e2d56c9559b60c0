"""The peak of memory is that of the stretch since the last reset."""

import sys

import numpy as np
import pytest
import torch

from tools.speed.peak_memory import peak_memory, reset_peak_memory


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_peak_belongs_to_its_stretch() -> None:
    device = torch.device("cpu")
    reset_peak_memory(device)
    before = peak_memory(device)
    large = np.ones(2**26)  # half a GiB
    held = peak_memory(device)
    assert 0.45 < held - before < 0.6
    del large
    assert peak_memory(device) == pytest.approx(held, abs=0.05)
    reset_peak_memory(device)
    assert peak_memory(device) < before + 0.1
