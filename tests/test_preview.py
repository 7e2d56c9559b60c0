"""`--preview`: the first frame, and the question whether to go on."""

import json
import os
import pty
import select
import termios
import time
from pathlib import Path

import pytest
from command import SHORT, Cli, assert_refused, names, pixels, save_frames
from forked import start

ASKED = "go on with the whole clip? [y/n] "


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    save_frames(tmp_path / "frames", 3)
    return tmp_path / "frames"


def arguments(model: Path, *more: str) -> list[str]:
    return ["frames", *SHORT, "--model", str(model), "-o", "out.mp4", "--preview", *more]


def answered(model: Path, folder: Path, *answers: str) -> tuple[int, str]:
    """The exit code and all that the terminal shows of a run that is asked."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 200))
    run = start("translate", *arguments(model), cwd=folder, terminal=os.ttyname(theirs))
    seen, left = "", list(answers)
    deadline = time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            ended = run.exit_code is not None
            if select.select([ours], [], [], 0.1)[0]:
                seen += os.read(ours, 4096).decode()
            elif ended:
                break
            if left and seen.count(ASKED) == len(answers) - len(left) + 1:
                # The whole is not begun before there is an answer.
                assert not (folder / "out.mp4").exists()
                os.write(ours, left.pop(0).encode())
        return run.wait(timeout=60).returncode, seen
    finally:
        run.process.kill()
        os.close(theirs)
        os.close(ours)


def test_yes_goes_on_with_the_whole(tiny_model: Path, frames: Path, tmp_path: Path) -> None:
    code, seen = answered(tiny_model, tmp_path, "what?\n", "y\n")
    assert code == 0, seen
    assert seen.count(ASKED) == 2
    assert "out-preview.png\r\n" in seen
    assert "out.mp4\r\n" in seen
    given = {"frames", *(f"frames/source{i}.png" for i in range(3))}
    made = {"out-preview.png", "out-preview.png.yaml", "out.mp4", "out.mp4.yaml"}
    assert names(tmp_path) == given | made


def test_no_stops(tiny_model: Path, frames: Path, tmp_path: Path) -> None:
    code, seen = answered(tiny_model, tmp_path, "n\n")
    assert code == 0, seen
    assert "out-preview.png\r\n" in seen
    assert not (tmp_path / "out.mp4").exists()


def test_where_nobody_can_be_asked(cli: Cli, frames: Path, tmp_path: Path) -> None:
    """The preview is the first frame of the whole; another one takes its place."""
    given = ("frames", *SHORT, "-o", "out.mp4", "--preview")
    assert cli(*given) == (
        0,
        "out-preview.png\n",
        "pnpvideo: this is the preview; for the whole clip, run the same command without "
        "--preview\n",
    )
    assert not (tmp_path / "out.mp4").exists()
    code, out, err = cli(*given, "--json")
    assert (code, err) == (0, "")
    told = {"event": "preview", "outputs": ["out-preview.png"]}
    assert json.loads(out.splitlines()[-1]) == told
    assert cli("frames", *SHORT, "-o", "whole/", "--blend-radius", "0")[0] == 0
    first = sorted((tmp_path / "whole").iterdir())[0]
    assert abs(pixels(tmp_path / "out-preview.png").astype(int) - pixels(first)).max() <= 1


def test_what_the_whole_could_not_write_is_told_first(
    cli: Cli, frames: Path, tmp_path: Path
) -> None:
    (tmp_path / "out.mp4").write_bytes(b"mine")
    before = names(tmp_path)
    result = cli("frames", *SHORT, "--preview", "-o", "out.mp4")
    assert_refused(result, 2, "out.mp4 exists already")
    (tmp_path / "out.mp4").unlink()
    (tmp_path / "out-preview.png").write_bytes(b"mine")
    result = cli("frames", *SHORT, "--preview", "-o", "out.mp4")
    assert_refused(result, 2, "out-preview.png exists already")
    assert names(tmp_path) == before - {"out.mp4"} | {"out-preview.png"}


def test_one_frame_is_no_question(cli: Cli, picture: Path, tmp_path: Path) -> None:
    code, out, err = cli(str(picture), *SHORT, "--preview", "-o", "out.png")
    assert (code, out, err) == (0, "out.png\n", "")
    assert names(tmp_path) == {"source0.png", "out.png", "out.png.yaml"}
