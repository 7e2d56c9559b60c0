"""A job folder serves one run at a time and believes only whole files of the same run."""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pnpvideo.errors import InputError
from pnpvideo.storage.denoising_state import DenoisingState
from pnpvideo.storage.job_folder import Identity, JobFolder
from pnpvideo.storage.trajectory import Trajectory

FRAMES = (5, 2, 3, 2)
TIMESTEPS = (501, 1)
SOURCE: Identity = {"source": "1", "size": "64x48"}
RUN = SOURCE | {"prompt": "2", "seed": "3"}
LATENTS = torch.arange(3 * 5 * 12, dtype=torch.float32).view(3, *FRAMES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "job"


def trajectory(job: JobFolder, source: Identity = SOURCE) -> Trajectory:
    return job.trajectory(source, FRAMES, TIMESTEPS, "a cat", torch.float32)


def state(steps: int) -> DenoisingState:
    generator = torch.Generator().manual_seed(steps)
    return DenoisingState(
        steps=steps, latents=torch.full((1, *FRAMES), steps), generator=generator.get_state()
    )


def interrupted(folder: Path, parts: tuple[slice, ...], steps: int = 0) -> None:
    """A run that is ended by an error after some frames of inversion, or steps of denoising."""
    with contextlib.suppress(KeyboardInterrupt), JobFolder(folder) as job:
        kept = trajectory(job)
        for part in parts:
            kept.write(part.start, LATENTS[:, part])
        job.state(RUN)
        if steps:
            job.save(state(steps))
        raise KeyboardInterrupt


ALL = (slice(0, 2), slice(2, 4), slice(4, 5))


def resumed(
    folder: Path, caplog: pytest.LogCaptureFixture, source: Identity = SOURCE, run: Identity = RUN
) -> tuple[list[slice], DenoisingState | None, str]:
    """Return what a run finds: unfinished frames, state, and what it reports."""
    caplog.set_level(logging.INFO, "pnpvideo")
    caplog.clear()
    with JobFolder(folder) as job:
        kept = trajectory(job, source)
        parts, found = kept.unfinished(2), job.state(run)
        missing = {frame for part in parts for frame in range(part.start, part.stop)}
        for frame in set(range(5)) - missing:
            assert torch.equal(kept.latents[1, frame : frame + 1], LATENTS[1, frame : frame + 1])
    messages = [message for message in caplog.messages if message.startswith("job ")]
    return parts, found, "".join(messages).removeprefix(f"job {folder}: ")


def test_an_interrupted_inversion_goes_on(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    interrupted(folder, ALL[:1])
    parts, found, told = resumed(folder, caplog)
    assert parts == [slice(2, 4), slice(4, 5)]
    assert (found, told) == (None, "reading the source continues after 2 of 5 frames")


def test_an_interrupted_denoising_goes_on(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    interrupted(folder, ALL, steps=7)
    parts, found, told = resumed(folder, caplog)
    assert parts == []
    assert found is not None
    assert found.steps == 7
    assert torch.equal(found.latents, state(7).latents)
    assert torch.equal(found.generator, state(7).generator)
    assert told == "reusing the inversion, drawing continues after 7 steps"
    # That run ended well: its state is gone, the inversion stays.
    assert {path.name for path in folder.iterdir()} == {
        "lock", "trajectory.log", "trajectory.safetensors"
    }  # fmt: skip
    assert resumed(folder, caplog) == ([], None, "reusing the inversion")


def test_what_belongs_to_another_run_is_not_used(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(folder, ALL, steps=7)
    other = RUN | {"prompt": "4", "seed": "5"}
    parts, found, told = resumed(folder, caplog, run=other)
    assert (parts, found) == ([], None)
    assert told == "reusing the inversion, drawing again (other prompt, seed)"
    parts, found, told = resumed(folder, caplog, source=SOURCE | {"size": "32x32"})
    assert parts == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert told == "reading the source again (other size)"


def test_without_an_inversion_none_is_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pnpvideo")
    for written in (slice(0, 2), slice(2, 5), None):
        with JobFolder(folder) as job:
            kept = job.trajectory(SOURCE, FRAMES, (), "a cat", torch.float32)
            if written is not None:
                kept.write(written.start, LATENTS[:1, written])
            job.state(RUN)
    said = [message for message in caplog.messages if message.startswith("job ")]
    assert said == [
        f"job {folder}: encoding continues after 2 of 5 frames",
        f"job {folder}: reusing the encoded source",
    ]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_state_is_not_used(
    folder: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    interrupted(folder, ALL, steps=7)
    _damage(folder / "denoising.safetensors", damage)
    parts, found, told = resumed(folder, caplog)
    assert (parts, found) == ([], None)
    assert told == "reusing the inversion, drawing again (its state was damaged)"


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_trajectory_is_not_used(
    folder: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    interrupted(folder, ALL)
    _damage(folder / "trajectory.safetensors", damage)
    parts, _, told = resumed(folder, caplog)
    if damage == "flipped":
        # Only the batch with the changed byte.
        assert parts == [slice(4, 5)]
        assert told == "reading the source continues after 4 of 5 frames"
    else:
        assert parts == [slice(0, 2), slice(2, 4), slice(4, 5)]
        assert told == "reading the source again (it was damaged)"


@pytest.mark.parametrize("tail", ["2 2 88", "2 2\n", "a b c\n", "2 2 88\n", "4 9 1\n", "\xff\n"])
def test_a_damaged_journal_counts_for_its_whole_lines(
    folder: Path, caplog: pytest.LogCaptureFixture, tail: str
) -> None:
    interrupted(folder, ALL[:1])
    whole = (folder / "trajectory.log").read_bytes()
    (folder / "trajectory.log").write_bytes(whole + tail.encode("latin-1"))
    interrupted(folder, ALL[1:2])
    assert (folder / "trajectory.log").read_bytes().startswith(whole + b"2 2 ")
    parts, _, told = resumed(folder, caplog)
    assert (parts, told) == ([slice(4, 5)], "reading the source continues after 4 of 5 frames")


def test_a_trajectory_in_a_job_folder_can_be_loaded(folder: Path) -> None:
    interrupted(folder, ALL)
    loaded = Trajectory.load(folder / "trajectory.safetensors")
    assert (loaded.timesteps, loaded.prompt) == (TIMESTEPS, "a cat")
    for level in range(3):
        assert torch.equal(loaded.latents[level, :], LATENTS[level])


def test_two_runs_cannot_share_a_folder(folder: Path) -> None:
    with JobFolder(folder), pytest.raises(InputError, match=r"in use by process \d+; wait"):
        JobFolder(folder).__enter__()
    with JobFolder(folder):
        pass


@pytest.mark.parametrize("use", [trajectory, lambda job: job.state(RUN)])
def test_outside_its_context_it_is_not_used(
    folder: Path, use: Callable[[JobFolder], object]
) -> None:
    job = JobFolder(folder)
    for _ in range(2):
        with pytest.raises(InputError, match="is not open; use it within"):
            use(job)
        with job:
            use(job)
            with pytest.raises(InputError, match="in use by process"):
                job.__enter__()
            use(job)


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(InputError, match="is not empty and not a job folder"):
        JobFolder(tmp_path).__enter__()
    with pytest.raises(InputError, match="is a file"):
        JobFolder(tmp_path / "holiday.jpg").__enter__()
    with pytest.raises(InputError, match="cannot be used: Not a directory"):
        JobFolder(tmp_path / "holiday.jpg" / "job").__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def _damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    changed = {
        "cut": content[:-4],
        "flipped": content[:-1] + bytes([content[-1] ^ 1]),
        "empty": b"",
        "other": b"not safetensors at all",
    }
    path.write_bytes(changed[how])
