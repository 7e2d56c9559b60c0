"""The command line from end to end, on real files with a tiny random model."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from clips import all_frames, decode, frame_times, make_video, samples
from command import SHORT, Cli, assert_refused, names, pixels, save_frames, subprocess_run
from forked import start
from models import save_lora
from PIL import Image

from pnpvideo.cli import main
from pnpvideo.clips.read import read_clip
from pnpvideo.options.declared import declared
from pnpvideo.options.settings import Settings
from pnpvideo.pixels.blend import blend_frames
from pnpvideo.pixels.scenes import find_scenes

# Good runs


def test_a_clip_keeps_its_sound_rate_and_number_of_frames(tiny_model: Path, tmp_path: Path) -> None:
    source = make_video(
        tmp_path / "in.mp4", "-c:v", "libx264", "-c:a", "aac", frames=6, rate="30000/1001",
        sound=True,
    )  # fmt: skip
    done = start(
        *("translate", "in.mp4", *SHORT, "--model", str(tiny_model), "-o", "new/out.mp4"),
        *("--quiet", "--batch-size", "4"),
        cwd=tmp_path,
    ).wait()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "new/out.mp4\n"
    output = tmp_path / "new" / "out.mp4"
    assert names(tmp_path / "new") == {"out.mp4", "out.mp4.yaml"}
    assert decode(output).shape == (6, 28, 36, 3)
    assert frame_times(output) == frame_times(source)
    assert frame_times(output)[1] == 6 * Fraction(1001, 30000)
    ours, theirs = samples(output), samples(source)
    length = min(len(ours), len(theirs))
    assert length > 0.15 * 8000
    assert np.abs(ours[:length] - theirs[:length]).mean() < 0.02 * np.abs(theirs).mean()


def test_original_size_and_a_range_of_frames(cli: Cli, tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4", "-c:v", "libx264", frames=9)
    code, out, err = cli(
        *("in.mp4", *SHORT, "-o", "out.gif", "--original-size"),
        *("--start", "1", "--frames", "3", "--stride", "2"),
    )
    assert (code, out, err) == (0, "out.gif\n", "")
    assert decode(tmp_path / "out.gif").shape == (3, 48, 64, 3)
    assert frame_times(tmp_path / "out.gif")[0] == [0, Fraction(2, 25), Fraction(4, 25)]


def test_a_folder_of_frames(cli: Cli, tmp_path: Path) -> None:
    save_frames(tmp_path / "frames", 3)
    for source in ("frames", "frames/source%d.png"):
        code, out, err = cli(source, *SHORT, "-o", "result/", "--overwrite", "--size", "32x16")
        assert (code, out, err) == (0, "result/\n", "") or (code, out, err) == (0, "result\n", "")
        assert names(tmp_path / "result") == {f"00000{i}.png" for i in (1, 2, 3)}
        assert pixels(tmp_path / "result" / "000001.png").shape == (16, 32, 3)
    assert (tmp_path / "result.yaml").is_file()


def test_a_folder_of_frames_as_a_video(cli: Cli, tmp_path: Path) -> None:
    save_frames(tmp_path / "frames", 3)
    code, out, err = cli("frames", *SHORT, "--size", "32x16", "--frame-rate", "12")
    assert (code, out, err) == (0, "frames-translated.mp4\n", "")
    assert frame_times(tmp_path / "frames-translated.mp4")[1] == Fraction(1, 4)


def test_the_result_goes_here_where_no_output_is_named(
    cli: Cli, picture: Path, tmp_path: Path
) -> None:
    assert cli(str(picture), *SHORT) == (0, "source0-translated.png\n", "")
    assert names(tmp_path) == {
        "source0.png", "source0-translated.png", "source0-translated.png.yaml"
    }  # fmt: skip


def test_several_prompts(cli: Cli, picture: Path, tmp_path: Path) -> None:
    code, out, _ = cli(str(picture), *SHORT, "--prompt", "two trees", "-o", "out.png", "--compare")
    assert code == 0
    wanted = ["out-1.png", "out-2.png", "out-1-compare.png", "out-2-compare.png"]
    assert out.split() == wanted
    assert names(tmp_path) == {*wanted, "out.png.yaml", "source0.png"}
    one, two, both = (pixels(tmp_path / name) for name in wanted[:3])
    assert not np.array_equal(one, two)
    assert cli(str(picture), *SHORT, "-o", "alone.png")[0] == 0
    # A batch of other shape rounds otherwise.
    assert np.abs(pixels(tmp_path / "alone.png").astype(int) - one).max() <= 1
    assert np.array_equal(both[:, -one.shape[1] :], one)
    assert both.shape[0] == one.shape[0]


def test_a_generated_source(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli("--guidance-prompt", "a star", *SHORT, "-o", "out.png")
    assert (code, out, err) == (0, "out.png\n", "")
    assert pixels(tmp_path / "out.png").shape == (32, 32, 3)


def test_check_inversion(cli: Cli, picture: Path) -> None:
    code, out, _ = cli(str(picture), *SHORT, "-o", "out.png", "--check-inversion")
    assert code == 0
    first, path = out.splitlines()
    assert first.startswith("inversion: sampling reproduces the source at ")
    assert first.endswith(" dB)")
    assert path == "out.png"


def test_a_lora_changes_the_result(cli: Cli, picture: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    name = "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v"
    down = torch.from_numpy(generator.normal(size=(2, 16)).astype(np.float32))
    save_lora({f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": 9 * down.T},
              tmp_path / "lora.safetensors")  # fmt: skip
    assert cli(str(picture), *SHORT, "-o", "without.png")[0] == 0
    code, _, err = cli(str(picture), *SHORT, "-o", "with.png", "--lora", "lora.safetensors")
    assert (code, err) == (0, "")
    assert not np.array_equal(pixels(tmp_path / "without.png"), pixels(tmp_path / "with.png"))


def test_frames_are_blended_along_the_motion_of_the_source(cli: Cli, tmp_path: Path) -> None:
    y, x = np.mgrid[:28, :36]
    source = [128 + 60 * np.sin((x - 2 * i) / 4) * np.cos(y / 5) for i in range(5)]
    (tmp_path / "in").mkdir()
    for i, grey in enumerate(source):
        Image.fromarray(grey.astype(np.uint8)).convert("RGB").save(tmp_path / "in" / f"{i}.png")
    seeded = ("in", *SHORT, "--noise-share", "0.5")
    assert cli(*seeded, "-o", "plain", "--blend-radius", "0")[0] == 0
    assert cli(*seeded, "-o", "blended")[0] == 0
    clips = [read_clip(str(tmp_path / name)) for name in ("plain", "blended", "in")]
    plain, blended, sources = (all_frames(clip) for clip in clips)
    expected = list(blend_frames([plain], [sources], find_scenes([sources]), 2))
    np.testing.assert_array_equal(blended, np.concatenate(expected))
    assert not np.array_equal(blended, plain)
    assert yaml.safe_load((tmp_path / "blended.yaml").read_text())["blend_radius"] == 2


def test_a_preset_sets_the_steps_unless_they_are_given(
    cli: Cli, picture: Path, tmp_path: Path
) -> None:
    def steps_of(name: str, *options: str) -> int:
        code, _, err = cli(*options, "-o", name)
        assert (code, err) == (0, "")
        steps: int = yaml.safe_load((tmp_path / f"{name}.yaml").read_text())["steps"]
        return steps

    new = (str(picture), "--prompt", "a stone", "--preset", "fast")
    assert steps_of("fast.png", *new) == 15
    assert steps_of("given.png", *new, "--steps", "2") == 2
    assert steps_of("again.png", "--config", "fast.png.yaml") == 15
    assert steps_of("other.png", "--config", "fast.png.yaml", "--preset", "balanced") == 30


def test_a_config_repeats_its_run_and_the_command_line_wins(
    cli: Cli, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, *_ = cli(
        *("source0.png", *SHORT, "-o", "out.png", "--seed", "3", "--noise-share", "0.5"),
        *("--negative-prompt", "grey", "--size", "32x48", "--compare", "--tau-a", "0"),
        *("--attention-sharing", "extended", "--keyframe-every", "5", "--noise-motion"),
    )
    assert code == 0
    first = (tmp_path / "out.png").read_bytes()
    written = yaml.safe_load((tmp_path / "out.png.yaml").read_text())
    assert (written["seed"], written["tau_f"], written["steps"]) == (3, 0.8, 2)
    assert (written["attention_sharing"], written["keyframe_every"]) == ("extended", 5)
    assert (written["keyframes"], written["noise_motion"]) == ("random", True)
    config = ("--config", str(tmp_path / "out.png.yaml"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert cli(*config, model=None)[0] == 2  # The result exists.
    (tmp_path / "out.png").write_bytes(b"")
    assert cli(*config, "--overwrite", model=None)[0] == 0
    assert (tmp_path / "out.png").read_bytes() == first
    assert names(elsewhere) == set()
    again = ("-o", "b.png", "--no-compare")
    assert cli(*config, *again, model=None) == (0, "b.png\n", "")
    assert (elsewhere / "b.png").read_bytes() == first
    assert yaml.safe_load((elsewhere / "b.png.yaml").read_text())["compare"] is False
    assert cli(*config, "--no-compare", "-o", "c.png", "--seed", "4", model=None)[0] == 0
    assert (elsewhere / "c.png").read_bytes() != first
    # A source on the command line takes the place of either kind of source.
    assert cli(*config, *again, "--overwrite", "--guidance-prompt", "a star", model=None)[0] == 0
    assert "source" not in yaml.safe_load((elsewhere / "b.png.yaml").read_text())


def test_help_reads_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["translate", "--help", "all"]):
        with pytest.raises(SystemExit) as exited:
            main(arguments)
        assert exited.value.code == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert "Translate a video" in out
    flags = {f"--{name.replace('_', '-')}" for name in declared(Settings) if name != "source"}
    assert flags <= set(re.findall(r"--[\w-]+", out))
    assert "==SUPPRESS==" not in out


@pytest.fixture
def hub() -> Iterator[str]:
    """The address of a model hub that answers and has no model."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if len(self.path) > 1 else 200)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_wrong_hub_id_in_a_process(picture: Path, tmp_path: Path, hub: str) -> None:
    done = subprocess_run(
        *("translate", "source0.png", *SHORT, "--model", "nobody/nothing", "-o", "out.png"),
        cwd=tmp_path,
        env=os.environ | {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home")},
    )
    result = (done.returncode, done.stdout, done.stderr)
    assert_refused(result, 2, "the hub has no public model of this name")


def test_a_full_disk(tiny_model: Path, picture: Path, tmp_path: Path) -> None:
    before = names(tmp_path)
    done = start(
        *("translate", "source0.png", *SHORT, "--model", str(tiny_model), "-o", "new/out.mp4"),
        "--quiet",
        cwd=tmp_path,
        largest_file=500,
    ).wait()
    result = (done.returncode, done.stdout, done.stderr)
    assert_refused(result, 1, "out.mp4")
    assert names(tmp_path) == before


@pytest.mark.slow
def test_ctrl_c(tiny_model: Path, picture: Path, tmp_path: Path) -> None:
    before = names(tmp_path)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pnpvideo", "translate", "source0.png", "--prompt", "a stone"),
            *("--steps", "999", "--model", str(tiny_model), "-o", "new/out.mp4"),
        ],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        # A shell that runs the tests in the background lets them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    shown = b""
    while b"reading the source" not in shown:
        more = process.stderr.read(1)
        assert more, shown.decode()
        shown += more
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)  # As a terminal does: to all that it runs.
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == b""
    assert (
        err.decode().splitlines()[-1].startswith("pnpvideo: stopped; nothing is kept: add `--job")
    )
    assert b"Traceback" not in err
    assert names(tmp_path) == before


def test_what_is_said_of_a_prompt_reaches_the_terminal(cli: Cli, picture: Path) -> None:
    prompt = "a (red:1.2) star " + "on snow " * 60 + "and a moon"
    code, _, err = cli(str(picture), "--prompt", prompt, "--steps", "1", "-o", "out.png")
    assert code == 0
    told = err.splitlines()
    assert len(told) == 2
    assert told[0].startswith("pnpvideo: '(red:1.2)' in the prompt is read as plain words")
    assert "on snow and a moon' (--prompt-weights" in told[1]
    assert "it does not see" in told[1]


# What a run tells


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert "usage: pnpvideo" in out
    assert "translate a video" in out
    assert err == ""


@pytest.mark.parametrize(
    ("flags", "told", "untold"),
    [
        ((), ("2 frames of 48 x 32 in 00:0", "the settings are in out.yaml"), ("frames, 48",)),
        (("--verbose",), ("source: 2 frames, 48 x 32", "out is written", "in torch.float32"), ()),
        (("--quiet",), (), ("frames",)),
    ],
)
def test_what_a_run_tells(
    cli: Cli,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    told: tuple[str, ...],
    untold: tuple[str, ...],
) -> None:
    save_frames(tmp_path / "source", 2)
    run = ("translate", "source", *SHORT, "--size", "48x32", "-o", "out")
    assert main([*run, "--model", str(tiny_model), *flags]) == 0
    out, err = capsys.readouterr()
    assert out == "out\n"
    assert all(text in err for text in told), err
    assert not any(text in err for text in untold), err


def test_a_log_file_has_all_and_the_trace_of_an_error(
    cli: Cli, picture: Path, tmp_path: Path
) -> None:
    log = ("--log-file", "log.txt")
    assert cli("source0.png", *SHORT, "-o", "out.png", *log)[0] == 0
    first = (tmp_path / "log.txt").read_text()
    assert "--prompt" in first.splitlines()[0]
    assert f"torch {torch.__version__}" in first.splitlines()[0]
    assert re.search(r"^\d{4}-\d\d-\d\d .* INFO 1 frame of ", first, re.MULTILINE)
    result = cli("source0.png", *SHORT, "-o", "out.png", *log)
    assert_refused(result, 2, "exists already")
    both = (tmp_path / "log.txt").read_text()
    assert both.startswith(first)
    assert "ERROR out.png exists already" in both
    assert "Traceback" in both
    code, _, err = cli("source0.png", *SHORT, "-o", "full.png", "--log-file", "/dev/full")
    assert code == 0
    assert err.count("the log file /dev/full ends here: No space left on device") == 1
    assert "Traceback" not in err
    for name in ("full.png", "full.png.yaml"):
        (tmp_path / name).unlink()
    result = cli("source0.png", *SHORT, "-o", "b.png", "--log-file", "no/log.txt")
    assert_refused(result, 2, "the log file no/log.txt cannot be written: No such file")
    assert names(tmp_path) == {"source0.png", "out.png", "out.png.yaml", "log.txt"}
