"""A run that is killed and started again gives what an unbroken one gives, bit for bit."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from command import Cli, assert_refused, names, pixels, save_frames
from forked import run_killed, start

from pnpvideo.cli import main

pytestmark = pytest.mark.slow

FRAMES = 4
RUN = (
    *("../frames", "--prompt", "a stone", "--prompt", "two trees", "--seed", "3", "--steps", "3"),
    *("--batch-size", "1", "--eta", "0.7", "--noise-share", "0.3", "-o", "out/", "--overwrite"),
)
JOB = ("--job", "job")


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The arguments of the run; the tests' working folder is tmp_path/here."""
    save_frames(tmp_path / "frames", FRAMES)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return (*RUN, "--model", str(tiny_model))


def frames_of(folder: Path) -> list[np.ndarray]:
    return [pixels(path) for i in (1, 2) for path in sorted(folder.glob(f"*-{i}/*.png"))]


def assert_same_frames(one: Path, other: Path) -> None:
    ours, theirs = frames_of(one), frames_of(other)
    assert len(ours) == len(theirs) == 2 * FRAMES
    for mine, their in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, their)


def unbroken(run: tuple[str, ...], folder: Path, *more: str) -> Path:
    """A run without a job folder, elsewhere."""
    folder.mkdir()
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["translate", *run, *more, "--quiet"]) == 0
    finally:
        os.chdir(before)
    return folder


def test_killed_again_and_again(run: tuple[str, ...], tmp_path: Path) -> None:
    """Killed while inverting, between the steps, and while the results take their names."""
    here = tmp_path / "here"
    code, told, processes = -9, "", []
    while code == -9:
        after = 3 + 3 * len(processes) // 2
        code, told = run_killed(*run, *JOB, cwd=here, after=after)
        processes.append(told)
    assert code == 0, told
    assert len(processes) > 3
    shown = "".join(processes)
    assert "reading the source continues after 3 of 4 frames" in shown
    assert "reusing the inversion, drawing continues after " in shown
    assert names(here / "job") == {"lock", "trajectory.log", "trajectory.safetensors"}
    assert_same_frames(here, unbroken(run, tmp_path / "unbroken"))


def test_another_prompt_reuses_the_inversion_and_another_size_does_not(
    run: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "here" / "job" / "trajectory.safetensors"
    assert main(["translate", *run, *JOB]) == 0
    assert "takes " in capsys.readouterr().err
    before = kept.read_bytes(), kept.stat().st_mtime_ns, kept.stat().st_ino
    changes = ("--negative-prompt", "grey", "--tau-f", "1", "--seed", "9", "--guidance-scale", "2")
    assert main(["translate", *run, *JOB, *changes]) == 0
    assert "pnpvideo: job job: reusing the inversion\n" in capsys.readouterr().err
    assert (kept.read_bytes(), kept.stat().st_mtime_ns, kept.stat().st_ino) == before
    assert_same_frames(tmp_path / "here", unbroken(run, tmp_path / "unbroken", *changes))
    capsys.readouterr()
    assert main(["translate", *run, *JOB, "--size", "32x16"]) == 0
    assert "pnpvideo: job job: reading the source again (other size)\n" in capsys.readouterr().err
    assert kept.stat().st_size < len(before[0])
    (tmp_path / "frames" / "source2.png").unlink()
    assert main(["translate", *run, *JOB, "--size", "32x16"]) == 0
    assert "pnpvideo: job job: reading the source again (other source)\n" in capsys.readouterr().err


def test_a_generated_source_is_made_again_and_its_state_used(
    cli: Cli, tiny_model: Path, tmp_path: Path
) -> None:
    run = ("--guidance-prompt", "a star", "--prompt", "a stone", "--steps", "5", "--eta", "1")
    code, told = run_killed(
        *run, "--model", str(tiny_model), "-o", "a.png", *JOB, cwd=tmp_path, after=4
    )
    assert code == -9, told
    assert names(tmp_path / "job") >= {"lock", "denoising.safetensors"}
    assert main(["translate", *run, "--model", str(tiny_model), "-o", "a.png", *JOB]) == 0
    assert cli(*run, "-o", "b.png")[0] == 0
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png"))
    assert names(tmp_path / "job") == {"lock"}


def test_without_a_job_nothing_is_left_of_a_trajectory_on_disk(
    run: tuple[str, ...], tmp_path: Path
) -> None:
    here = tmp_path / "here"
    on_disk = (*run, "--trajectory", "disk", "--trajectory-precision", "full")
    code, told = run_killed(*on_disk, cwd=here, after=0)
    assert code == -9
    assert "the source's trajectory (4 frames) takes " in told
    # What the writing of the result has left under another name.
    assert all(name.split("/")[0].endswith(".part") for name in names(here))
    assert main(["translate", *on_disk]) == 0
    both = ("--trajectory", "memory", "--trajectory-precision", "full")
    assert_same_frames(here, unbroken(run, tmp_path / "unbroken", *both))


def test_a_running_job_is_not_disturbed(
    run: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    longer = (*run, "--steps", "6", *JOB)
    process = start("translate", *longer, cwd=here)
    journal = here / "job" / "trajectory.log"
    while not (journal.exists() and journal.stat().st_size):
        assert process.exit_code is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGSTOP)
    code = main(["translate", *longer, "-o", "other"])
    assert_refused((code, *capsys.readouterr()), 2, f"is in use by process {process.pid}; wait")
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait().returncode == -9
    assert main(["translate", *longer]) == 0
    told = capsys.readouterr().err
    assert "the inversion" in told or "reading the source continues after 3 of 4 frames" in told
    assert_same_frames(here, unbroken((*run, "--steps", "6"), tmp_path / "unbroken"))


def test_the_seed_of_a_state_is_the_seed_of_its_run(
    run: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_killed(*run, *JOB, cwd=tmp_path / "here", after=10)[0] == -9
    state = tmp_path / "here" / "job" / "denoising.safetensors"
    assert state.exists()
    assert main(["translate", *run, *JOB, "--seed", "4"]) == 0
    assert "reusing the inversion, drawing again (other seed)" in capsys.readouterr().err
    assert_same_frames(tmp_path / "here", unbroken(run, tmp_path / "unbroken", "--seed", "4"))


def test_what_comes_after_sampling_makes_nothing_anew(
    run: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A killed run goes on where it was when it is started again to be blended otherwise."""
    here = tmp_path / "here"
    assert run_killed(*run, *JOB, "--blend-radius", "1", cwd=here, after=10)[0] == -9
    other = ("--blend-radius", "0")
    assert main(["translate", *run, *JOB, *other]) == 0
    assert "reusing the inversion, drawing continues after" in capsys.readouterr().err
    assert_same_frames(here, unbroken(run, tmp_path / "unbroken", *other))
