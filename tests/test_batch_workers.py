"""`pnpvideo batch` with several workers, some of which die."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from command import pixels, save_frames
from forked import processes_of, start

from pnpvideo.cli import main

pytestmark = pytest.mark.slow


def test_a_killed_worker_loses_only_its_step(tiny_model: Path, tmp_path: Path) -> None:
    """One of two is killed in the middle of a job; results are those of one worker.

    One job is longer than the others together, so both make a part of it.
    """
    (tmp_path / "clips").mkdir()
    for number, count in enumerate((9, 1, 2)):
        save_frames(tmp_path / "clips" / f"clip{number}", count)
    out, alone = tmp_path / "out", tmp_path / "alone"
    own = ("--prompt", "a stone", "--steps", "6", "--model", str(tiny_model), "--quiet")
    own += ("--batch-size", "1")
    process = start(
        "batch", str(tmp_path / "clips"), *own, "-o", str(out), "--workers", "2", cwd=tmp_path
    )
    jobs = out / ".batch" / "jobs"
    while not (at_work := processes_of(jobs)):
        assert process.exit_code is None
        time.sleep(0.01)
    spans = {path.name.partition("-")[2] for path in jobs.iterdir()}
    os.kill(at_work[0], signal.SIGKILL)
    done = process.wait()
    told = done.stderr
    assert done.returncode == 0, told
    assert "its worker died; it is tried again (it was ended by signal 9" in told
    assert "torchvision" not in told
    rows = json.loads((out / "batch.json").read_text())["jobs"]
    assert {row["state"] for row in rows} == {"done"}
    assert rows[0]["seconds"] > max(row["seconds"] for row in rows[1:])
    assert spans <= {"0-of-2", "1-of-2"}
    assert spans
    assert main(["batch", str(tmp_path / "clips"), *own, "-o", str(alone)]) == 0
    for path in alone.glob("*/*.png"):
        np.testing.assert_array_equal(pixels(path), pixels(out / path.relative_to(alone)))
