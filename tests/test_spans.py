"""Spans of a clip that are made separately and joined are as one run makes them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clips import smooth_frames
from command import names, pixels
from PIL import Image

from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.job import Job, Span
from pnpvideo.batch.plan import plan
from pnpvideo.batch.read_jobs import JobEntry
from pnpvideo.batch.spread import most_spans, span_counts
from pnpvideo.batch.worker import Worker
from pnpvideo.models.stable_diffusion.unet import UNet
from pnpvideo.run.run import run
from pnpvideo.sampling.spans import cut_into_spans, widened
from pnpvideo.storage.job_files import STATE
from pnpvideo.storage.job_folder import JobFolder, identity_of, read_state

SCENES = (3, 5, 4)


def save_scenes(folder: Path) -> None:
    """Frames with two cuts."""
    folder.mkdir()
    shown = 0
    for scene, count in enumerate(SCENES):
        for frame in smooth_frames(count, 48, 32):
            changed = np.roll(frame, scene, axis=-1) // (1 + scene) + 60 * scene
            Image.fromarray(changed.astype(np.uint8)).save(folder / f"frame{shown:03}.png")
            shown += 1


def jobs_of(tmp_path: Path, model: Path, values: Mapping[str, object]) -> tuple[BatchFolder, Job]:
    folder = BatchFolder(tmp_path / "out")
    folder.make("records", "jobs", "inversions")
    own = {"source": str(tmp_path / "frames"), "prompt": ["a stone"], "seed": 5}
    values = own | {"model": str(model), "steps": 2, "batch_size": 1, **values}
    (job,) = plan([JobEntry(place="clips", values=values)], folder)
    return folder, job


@pytest.mark.parametrize(
    "values",
    [
        {
            "attention_sharing": "propagate",
            "keyframes": "random",
            "keyframe_every": 2,
            "noise_motion": True,
            "noise_share": 0.4,
            "eta": 0.7,
        },
        {"attention_sharing": "none", "noise_share": 0.4, "eta": 0.7},
    ],
)
def test_as_from_one_run(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: Mapping[str, object],
) -> None:
    """Frames with two cuts in three spans, in any order, one of them begun twice."""
    save_scenes(tmp_path / "frames")
    folder, job = jobs_of(tmp_path, tiny_model, values)
    whole = job.settings.model_copy(update={"output": str(tmp_path / "whole" / "a") + "/"})
    (tmp_path / "whole").mkdir()
    expected = run(whole, quiet=True)
    worker = Worker(folder, "0", None)
    for number in (2, 0, 2, 1):
        made = worker.do(Span(job=job, number=number, count=3))
        assert made is not None
        assert (made.state, made.error) == ("done", "")
    assert not Path(job.outputs.results[0]).exists()
    monkeypatch.setattr(UNet, "predict", None)  # Nothing is left to be sampled.
    made = worker.do(job)
    assert made is not None
    assert (made.state, made.error) == ("done", "")
    for one, other in zip(expected.outputs, job.outputs.results, strict=True):
        paths = sorted(one.glob("*.png"))
        assert len(paths) == sum(SCENES)
        for path in paths:
            np.testing.assert_array_equal(pixels(path), pixels(Path(other) / path.name))
    assert not names(tmp_path / "out" / ".batch" / "jobs")


def test_a_span_that_is_missing_or_unfinished_is_told(tiny_model: Path, tmp_path: Path) -> None:
    save_scenes(tmp_path / "frames")
    folder, job = jobs_of(tmp_path, tiny_model, {})
    worker = Worker(folder, "0", None)
    for number in (0, 2):
        worker.do(Span(job=job, number=number, count=3))
    made = worker.do(job)
    assert made is not None
    assert made.state == "failed"
    assert made.error == "no span holds frames 3 to 8"
    span = Span(job=job, number=1, count=3)
    worker.do(span)
    state, metadata = read_state(folder.span_folder(span) / STATE)
    with JobFolder(folder.span_folder(span), keep_state=True) as begun:
        begun.state(identity_of(metadata))
        begun.save(replace(state, steps=1))
    made = worker.do(job)
    assert made is not None
    assert made.error == "some spans of the clip are not finished"
    worker.do(span)
    made = worker.do(job)
    assert made is not None
    assert made.state == "done"


def test_spans_end_at_cuts_and_are_of_about_one_length() -> None:
    cuts = [0, 3, 8, 9, 15, 31]
    expected = {
        1: [0],
        2: [0, 15],
        3: [0, 15, 31],
        5: [0, 8, 15, 31],
        40: cuts,
    }
    for count, starts in expected.items():
        spans = cut_into_spans(40, cuts, count)
        assert [span.start for span in spans] == starts
        assert [frame for span in spans for frame in span] == list(range(40))


def test_widened() -> None:
    for start in range(11):
        for stop in range(start + 1, 12):
            batches = [range(first, min(first + 3, 11)) for first in range(0, 11, 3)]
            wanted = {f for batch in batches if set(batch) & set(range(start, stop)) for f in batch}
            assert set(widened(range(start, stop), 3, 11)) == wanted


def test_only_a_job_longer_than_a_fair_share_is_cut(tiny_model: Path, tmp_path: Path) -> None:
    save_scenes(tmp_path / "frames")
    folder, long = jobs_of(tmp_path, tiny_model, {"attention_sharing": "none"})
    assert most_spans(long) == 4
    jobs = [long, *[replace(long, id=f"short{number}", frames=3) for number in range(3)]]
    assert span_counts(jobs, [0, 1, 2, 3], folder, 1) == {0: 1, 1: 1, 2: 1, 3: 1}
    assert span_counts(jobs, [0, 1, 2, 3], folder, 2) == {0: 2, 1: 1, 2: 1, 3: 1}
    assert span_counts(jobs, [0, 1, 2, 3], folder, 4) == {0: 3, 1: 1, 2: 1, 3: 1}
    assert span_counts(jobs, [0], folder, 9) == {0: 4}
    assert span_counts([long] * 4, [0, 1, 2, 3], folder, 4) == {0: 1, 1: 1, 2: 1, 3: 1}
    named = long.settings.model_copy(update={"mask_from_prompt": "a fox"})
    assert most_spans(replace(long, settings=named)) == 1
    # What is begun goes on as it was begun, with fewer workers too.
    folder.span_folder(Span(job=long, number=1, count=3)).mkdir()
    assert span_counts([long], [0], folder, 1) == {0: 3}
