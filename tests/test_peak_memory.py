"""The peak of memory is that of the stretch since the last reset."""

import sys
from pathlib import Path

import pytest
from command import run_script

ROOT = Path(__file__).parents[1]
# In a process of its own: in one that has freed much, what comes next need not show.
SCRIPT = """
import numpy as np
import torch
from tools.speed.peak_memory import peak_memory, reset_peak_memory

device = torch.device("cpu")
reset_peak_memory(device)
before = peak_memory(device)
large = np.ones(2**26)  # half a GiB
held = peak_memory(device)
del large
after = peak_memory(device)
reset_peak_memory(device)
print(before, held, after, peak_memory(device))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_peak_belongs_to_its_stretch() -> None:
    done = run_script(SCRIPT, cwd=ROOT)
    before, held, after, last = map(float, done.stdout.split())
    assert 0.45 < held - before < 0.6
    assert after == pytest.approx(held, abs=0.05)
    assert last < before + 0.1
