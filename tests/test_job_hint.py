"""The hint at a job folder, which long runs give."""

import io
import logging
from pathlib import Path

import pytest
from command import SHORT, save_frames

from pnpvideo.cli import main
from pnpvideo.commands import job_hint
from pnpvideo.commands.job_hint import JobHint
from pnpvideo.stages.cost import RunCost


@pytest.mark.parametrize(
    ("stage", "seconds", "total", "told"),
    [
        ("inverting", 20, 10, "about 09:40 left; add `--job fox-job` to go on after a stop"),
        ("inverting", 5, 100, None),  # Too early to tell.
        ("inverting", 20, 5, None),
        ("translating", 20, 15, None),  # 14 steps of 20 seconds.
        ("translating", 20, 21, "about 06:40 left; add `--job fox-job` to go on after a stop"),
    ],
)
def test_a_bar_shows_that_a_run_is_long(
    stage: str, seconds: float, total: int, told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The bar began so many seconds ago, and has made the first of its steps."""
    caplog.set_level(logging.INFO, "pnpvideo")
    hint = JobHint("fox-job")
    hint.expect(RunCost(source_stage="inverting", source=10, sampling=20))
    bar = hint.bars()(desc=stage, total=total, initial=0, file=io.StringIO(), mininterval=0)
    bar.start_t -= seconds
    bar.last_print_t -= seconds
    bar.update()
    bar.update()
    assert caplog.messages == ([] if told is None else [told])


@pytest.mark.parametrize(("given", "told"), [((), 1), (("--job", "kept"), 0), (("--json",), 0)])
def test_only_a_run_that_keeps_nothing_gives_it(
    given: tuple[str, ...],
    told: int,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(job_hint, "_LONG", 0.0)
    monkeypatch.setattr(job_hint, "_SETTLED", 0.0)
    save_frames(tmp_path / "source", 3)
    monkeypatch.chdir(tmp_path)
    run = ("source", *SHORT, "--steps", "60", "-o", "out", "--model", str(tiny_model))
    assert main(["translate", *run, *given]) == 0
    err = capsys.readouterr().err
    assert err.count("add `--job out-job` to go on after a stop") == told
    # What the bars show, in plain words; none is drawn beside lines of JSON.
    for text in ("reading the source: ", "drawing: ", " left"):
        assert (text in err) == ("--json" not in given)
    assert "inverting" not in err
