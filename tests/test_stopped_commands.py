"""The message of a stopped command: what is kept, and how to go on."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from command import SHORT, Cli, save_frames

from pnpvideo.batch import run_batch
from pnpvideo.cli import main
from pnpvideo.evaluation import evaluate
from pnpvideo.grid import edits
from pnpvideo.run import run
from pnpvideo.stages import callbacks

GO_ON = "run the same command to go on"
NOTHING_YET = "nothing is finished yet: the same command starts anew"
UNDER_WAY = "only the frames or the step under way are made again"
WORK = {
    "translate": (run, "run"),
    "batch": (run_batch, "plan_batch"),
    "grid": (edits, "read_edits"),
    "evaluate": (evaluate, "evaluate"),
}
"""Where the work of a command begins."""
CASES = [
    (
        ("translate", "a/my dance.mp4"),
        "nothing is kept: add `--job my-dance-job` to go on next time",
    ),
    (("translate", "frames/"), "nothing is kept: add `--job frames-job` to go on next time"),
    (("translate", "%04d.png", "-o", "x.mp4"), "nothing is kept: add `--job x-job` to go on next"),
    (("translate", "*.png"), "nothing is kept: add `--job my-job` to go on next time"),
    (
        ("translate", "a.mp4", "--job", "kept"),
        NOTHING_YET,
    ),
    (
        ("batch", "clips", "-o", "out"),
        f"results that are done and finished steps are kept: {GO_ON}",
    ),
    (("batch", "clips", "-o", "out", "--dry-run"), "a dry run makes no results"),
    (("grid", "a.png", "-o", "out"), f"the combinations that are done are kept: {GO_ON}"),
    (
        ("evaluate", "manifest", "a.csv", "-o", "out"),
        f"the results that are done are kept: {GO_ON}",
    ),
]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_is_kept(
    number: signal.Signals,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*_given: object, **_more: object) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.chdir(tmp_path)
    for folder in ("a", "clips", "frames"):
        Path(folder).mkdir()
    for source in ("a/my dance.mp4", "0001.png", "a.mp4", "a.png"):
        Path(source).touch()
    for module, name in WORK.values():
        monkeypatch.setattr(module, name, stop)
    # What runs the tests, such as nohup, may have let them ignore it.
    heeded = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, heeded)
    try:
        for arguments, message in CASES:
            texts = () if arguments[0] == "evaluate" else ("--prompt", "a stone")
            code = main([*arguments, *texts, "--model", str(tiny_model)])
            last = capsys.readouterr().err.splitlines()[-1]
            assert code == 128 + number, last
            assert last.startswith(f"pnpvideo: stopped; {message}"), last
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "nothing else is kept: add `--job out-job` and --overwrite to go on next time"),
        (("--overwrite",), "nothing else is kept: add `--job out-job` to go on next time"),
        (("--job", "kept"), f"{GO_ON.replace(' to', ' with --overwrite to')}; only the results"),
    ],
)
def test_what_is_written_already(
    cli: Cli,
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
    message: str,
) -> None:
    """A run is stopped when the first of two results is written, and goes on as it says."""
    real = run.write_result
    given = (picture.name, "--prompt", "a stone", "--prompt", "a moon", "--steps", "2", *more)

    def stop_at_the_second(frames: object, output: str, *others: Any) -> None:
        if output == "out-2.png":
            raise KeyboardInterrupt
        real(frames, output, *others)

    with monkeypatch.context() as patch:
        patch.setattr(run, "write_result", stop_at_the_second)
        code, _, error = cli(*given, "-o", "out.png")
    last = error.splitlines()[-1]
    assert code == 130
    assert last.startswith(f"pnpvideo: stopped; out-1.png is written; {message}")
    if "--overwrite" not in more:
        assert cli(*given, "-o", "out.png")[0] == 2
    assert cli(*given, "-o", "out.png", "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("stage", "update", "message"),
    [
        ("inverting", 1, NOTHING_YET),
        ("inverting", 2, NOTHING_YET),
        ("inverting", 3, f"{GO_ON}; {UNDER_WAY}"),  # In the second batch of frames.
        ("translating", 1, f"{GO_ON}; {UNDER_WAY}"),
        ("translating", 4, f"{GO_ON}; {UNDER_WAY}"),
    ],
)
def test_a_job_says_whether_anything_is_finished(
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    update: int,
    message: str,
) -> None:
    """A run of two batches of frames, with two steps each, is stopped at an update of a bar."""
    save_frames(tmp_path / "source", 6)

    class StoppingBar(callbacks.Bar):
        def __init__(self, *, desc: str, **config: Any) -> None:
            super().__init__(desc=desc, **config)
            self._left = update if desc == stage else None

        def update(self, n: float | None = 1) -> bool | None:
            if self._left is not None:
                self._left -= 1
                if not self._left:
                    raise KeyboardInterrupt
            return super().update(n)

    monkeypatch.setattr(callbacks, "Bar", StoppingBar)
    code, _, error = cli("source", *SHORT, "--batch-size", "1", "--job", "kept", "-o", "out")
    assert code == 130
    assert error.splitlines()[-1] == f"pnpvideo: stopped; {message}"
