"""`--json`: what a script reads of a run."""

import json
from pathlib import Path

from command import SHORT, Cli, save_frames
from forked import start


def test_a_script_reads_how_far_it_is_and_what_was_written(
    tiny_model: Path, tmp_path: Path
) -> None:
    """In a process of its own, whose stdout is nothing but lines of JSON."""
    save_frames(tmp_path / "frames", 3)
    given = ("frames", *SHORT, "--model", str(tiny_model), "-o", "out.mp4", "--check-inversion")
    done = start("translate", *given, "--compare", "--json", cwd=tmp_path).wait()
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["progress"] * (len(lines) - 1) + ["done"]
    for stage in ("inverting", "translating", "reconstructing"):
        bars = [line for line in lines[:-1] if line["stage"] == stage]
        assert bars[0]["done"] == 0
        assert [line["done"] for line in bars] == sorted(line["done"] for line in bars)
        # Three frames in two steps.
        assert bars[-1] == {"event": "progress", "stage": stage, "done": 6, "total": 6}
    result = lines[-1]
    assert result["outputs"] == ["out.mp4"]
    assert result["compares"] == ["out-compare.mp4"]
    assert result["settings"] == "out.mp4.yaml"
    assert (result["frames"], result["size"]) == (3, [40, 28])
    assert result["seconds"] > 0
    assert result["inversion"].keys() == {"reconstruction", "autoencoder"}
    for name in (*result["outputs"], *result["compares"], result["settings"]):
        assert (tmp_path / name).is_file()
    # No bar is drawn beside them.
    assert "\r" not in done.stderr


def test_a_script_reads_why_it_failed(cli: Cli, picture: Path) -> None:
    for given, message in (
        ((str(picture), *SHORT, "--steps", "0"), "steps is 0; give a whole number from 1 to 999"),
        (("none.png", *SHORT), "none.png does not exist"),
    ):
        code, out, err = cli(*given, "-o", "out.png", "--json")
        assert code == 2
        assert json.loads(out) == {"event": "error", "message": err[len("pnpvideo: ") :].strip()}
        assert message in err
