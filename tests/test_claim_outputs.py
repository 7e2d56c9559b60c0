"""Outputs through links, under long names, by several runs at once and after runs that died."""

import os
import pty
import signal
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import SHORT, Cli, assert_refused, names, pixels, save_frames
from forked import Forked, run_killed, start

from pnpvideo import InputError, RunError, write_clip
from pnpvideo.cli import main
from pnpvideo.files.atomic_output import atomic_output, claimed

FRAMES = np.arange(2 * 16 * 16 * 3, dtype=np.uint8).reshape(2, 16, 16, 3)


# Links


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("out.png", "far/real.png"),
        ("out.mp4", "far/real.mp4"),
        ("out.webp", "far/real.webp"),
        ("out.png", "far/other-suffix.bin"),
        ("frames", "far/frames"),
    ],
)
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_written(
    tmp_path: Path, link: str, target: str, there: bool
) -> None:
    output, real = tmp_path / link, tmp_path / target
    (tmp_path / "far").mkdir()
    output.symlink_to(target)
    folder = not output.suffix
    if there and folder:
        real.mkdir()
        (real / "000009.png").write_bytes(b"old")
    elif there:
        real.write_bytes(b"old")
    write_clip([FRAMES[: 1 if output.suffix == ".png" else 2]], output, overwrite=there)
    assert output.is_symlink()
    assert str(output.readlink()) == target
    inside = {"frames", "frames/000001.png", "frames/000002.png"} if folder else {real.name}
    assert names(tmp_path / "far") == inside
    assert names(tmp_path) - {link} == {"far"} | {f"far/{name}" for name in names(tmp_path / "far")}
    if target.endswith((".png", "frames")):
        np.testing.assert_array_equal(pixels(real / "000001.png" if folder else real), FRAMES[0])


def test_a_link_through_other_links_and_one_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("b.png")
    (tmp_path / "b.png").symlink_to("far/c.png")
    (tmp_path / "far").mkdir()
    write_clip([FRAMES[:1]], tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(tmp_path / "far" / "c.png"), FRAMES[0])
    assert (tmp_path / "a.png").is_symlink()
    assert (tmp_path / "b.png").is_symlink()
    with pytest.raises(InputError, match="exists already"):
        write_clip([FRAMES[:1]], tmp_path / "a.png")
    (tmp_path / "round.png").symlink_to("round.png")
    with pytest.raises(InputError, match=r"round\.png is a broken link"):
        write_clip([FRAMES[:1]], tmp_path / "round.png", overwrite=True)


# Names


@pytest.mark.parametrize("suffix", [".mp4", ".png", ".webp", ""])
@pytest.mark.parametrize("letter", ["a", "ä"])
def test_names_as_long_as_the_disk_allows(tmp_path: Path, suffix: str, letter: str) -> None:
    longest = (255 - len(suffix)) // len(letter.encode())
    output = tmp_path / (letter * longest + suffix)
    write_clip([FRAMES[: 1 if suffix == ".png" else 2]], output)
    assert {path.name for path in tmp_path.iterdir()} == {output.name}
    write_clip([FRAMES[: 1 if suffix == ".png" else 2]], output, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {output.name}
    with pytest.raises(InputError, match=r"is a name of 25\d bytes, and this disk allows 255"):
        write_clip([FRAMES[:1]], tmp_path / (letter * (longest + 1) + suffix))


@pytest.mark.parametrize("letters", [251, 256, 300])
def test_names_that_cannot_be_are_known_before_the_work(
    cli: Cli, picture: Path, tmp_path: Path, letters: int
) -> None:
    before = names(tmp_path)
    # The settings, NAME.png.yaml, are longer by five.
    assert_refused(
        cli("source0.png", *SHORT, "-o", "a" * (letters - 4) + ".png", model="no/such"),
        2,
        "bytes, and this disk allows 255; choose a shorter name",
    )
    assert names(tmp_path) == before


# Two runs


def test_an_output_is_one_run_s_at_a_time(cli: Cli, picture: Path, tmp_path: Path) -> None:
    taken = {"out.png": "out.png", "out-compare.png": "out.png", "out.png.yaml": "out.png"}
    (tmp_path / "link.png").symlink_to("real.png")
    for other, output in (taken | {"real.png": "link.png"}).items():
        held, done = threading.Event(), threading.Event()

        def hold(path: Path, held: threading.Event, done: threading.Event) -> None:
            with claimed(path):
                held.set()
                done.wait()

        thread = threading.Thread(target=hold, args=(tmp_path / other, held, done))
        thread.start()
        try:
            assert held.wait(10)
            # Before the model, which would be refused as well.
            result = cli("source0.png", *SHORT, "-o", output, "--compare", model="no/such")
            assert_refused(result, 2, "is being written by another run; wait for it, or choose")
        finally:
            done.set()
            thread.join()
        assert names(tmp_path) == {"source0.png", "link.png"}
    assert cli("source0.png", *SHORT, "-o", "out.png")[0] == 0


def test_many_threads_one_output(tmp_path: Path) -> None:
    output = tmp_path / "new" / "out.png"
    told: list[object] = []

    def work(number: int) -> None:
        for _ in range(25):
            try:
                with atomic_output(output, folder=False, overwrite=True) as part:
                    part.write_text(str(number) * 1000)
            except InputError as error:
                told.append("another run" in str(error))
            except RunError as error:
                told.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = output.read_text()
    assert text == text[0] * 1000
    assert set(told) <= {True}
    assert names(tmp_path) == {"new", "new/out.png"}


# Runs that died


@pytest.mark.slow
def test_what_a_killed_run_left_is_cleared(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    save_frames(here / "in", 3)
    for output in ("out.png", "out", "out.mp4"):
        run = ("in", *SHORT, "-o", output, "--model", str(tiny_model), "--quiet", "--frames", "1")
        before = names(here)
        # At the renaming of the result, all work done.
        code, _ = run_killed(*run, cwd=here, after=0)
        assert code == -9
        left = names(here) - before
        assert left
        assert {name.split("/")[0].endswith(".part") for name in left} == {True}
        monkeypatch.chdir(here)
        assert main(["translate", *run]) == 0
        assert not [name for name in names(here) if ".part" in name]


def test_a_folder_that_was_being_swapped_comes_back(tmp_path: Path) -> None:
    output = tmp_path / "frames"
    write_clip([FRAMES], output)
    before = names(output)
    with claimed(output) as part:
        pass
    # As after SIGKILL between the two renames: the old frames away, the new ones not there.
    part.mkdir()
    (part / "lock").touch()
    output.rename(part / "old")
    with claimed(output):
        assert names(output) == before
    assert names(tmp_path) == {"frames", *(f"frames/{name}" for name in before)}


# Signals


def begin(tiny_model: Path, cwd: Path, terminal: str | None = None) -> Forked:
    return start(
        *("translate", "source0.png", "--prompt", "a stone", "--steps", "999"),
        *("--model", str(tiny_model), "-o", "new/out.mp4"),
        cwd=cwd,
        terminal=terminal,
    )


def wait_until_reading(run: Forked, shown: Callable[[], bytes]) -> None:
    seen = b""
    while b"reading the source" not in seen:
        assert run.exit_code is None, seen.decode()
        seen += shown()
    time.sleep(0.2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_run_as_ctrl_c_does(
    tiny_model: Path, picture: Path, tmp_path: Path, number: signal.Signals
) -> None:
    before = names(tmp_path)
    run = begin(tiny_model, tmp_path)
    wait_until_reading(run, run.stderr.read_bytes)
    assert any(name.endswith(".part") for name in names(tmp_path))
    os.kill(run.pid, number)
    os.kill(run.pid, number)  # Impatient schedulers send it twice.
    done = run.wait(30)
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr.splitlines()[-1].startswith("pnpvideo: stopped; nothing is kept: add `--job")
    assert "Traceback" not in done.stderr
    assert names(tmp_path) == before


def test_a_closed_terminal(tiny_model: Path, picture: Path, tmp_path: Path) -> None:
    before = names(tmp_path)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    run = begin(tiny_model, tmp_path, os.ttyname(theirs))
    wait_until_reading(run, lambda: os.read(ours, 64))
    os.close(theirs)
    os.close(ours)
    assert run.wait(30).returncode == 128 + signal.SIGHUP
    assert names(tmp_path) == before
