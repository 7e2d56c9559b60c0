"""Jobs of a batch: which settings make another job, another inversion, another loaded model."""

from pathlib import Path
from typing import Any

import pytest
from command import save_frames

from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.job import Job
from pnpvideo.batch.plan import plan
from pnpvideo.batch.read_jobs import JobEntry


@pytest.fixture
def source(tmp_path: Path) -> Path:
    save_frames(tmp_path / "frames", 2)
    return tmp_path / "frames"


def planned(folder: Path, **values: Any) -> Job:
    given = {"source": str(folder), "prompt": "a stone", "output": "a.mp4"} | values
    (job,) = plan([JobEntry(place="line 1", values=given)], BatchFolder(folder.parent / "out"))
    return job


@pytest.mark.parametrize(
    ("values", "other_job", "other_inversion", "other_model"),
    [
        ({}, False, False, False),
        ({"batch_size": 1}, False, False, False),
        ({"trajectory": "disk"}, False, False, False),
        # A model is loaded onto its device, and its results are the same there.
        ({"device": "cuda:1"}, False, False, True),
        ({"offload": True}, False, False, True),
        ({"trajectory_precision": "full"}, True, True, False),
        ({"dtype": "bfloat16"}, True, True, True),
        ({"steps": 4}, True, True, False),
        ({"preset": "fast"}, True, True, False),
        ({"stride": 2}, True, True, False),
        ({"inversion_prompt": "a cat"}, True, True, False),
        ({"prompt": "a moon"}, True, False, False),
        ({"seed": 2}, True, False, False),
        ({"tau_f": 0.5}, True, False, False),
        ({"blend_radius": 0}, True, False, False),
        ({"quality": 90}, True, False, False),
        ({"frame_rate": 12}, True, False, False),
        ({"check_inversion": True}, False, False, False),
        # Given as it is anyway: the model may have another value of its own.
        ({"tau_f": 0.8}, True, False, False),
    ],
)
def test_identities_follow_from_lifetimes(
    source: Path, values: dict[str, Any], other_job: bool, other_inversion: bool, other_model: bool
) -> None:
    before, after = planned(source), planned(source, **values)
    assert (before.id != after.id) == other_job
    assert (before.inversion != after.inversion) == other_inversion
    assert (before.model != after.model) == other_model


def test_a_changed_file_is_another_job(source: Path) -> None:
    before = planned(source)
    save_frames(source, 2, 32, 32)
    after = planned(source)
    assert before.id != after.id
    assert before.inversion != after.inversion


def test_a_source_that_the_model_makes_shares_no_inversion(source: Path) -> None:
    made = {"source": None, "guidance_prompt": "a star", "model": "owner/name"}
    assert planned(source, **made, output="a.png").inversion is None
