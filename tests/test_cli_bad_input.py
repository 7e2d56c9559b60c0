"""Bad input to the command line: one line, exit code 2 or 1, nothing left."""

from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_video
from command import (
    SHORT,
    Cli,
    assert_refused,
    hub_without_answers,
    names,
    pixels,
    save_frames,
)
from PIL import Image
from safetensors.torch import save_file


def bad_sources(folder: Path) -> dict[str, str]:
    """Makes files that cannot be used; their names with a part of what is said of them."""
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.mp4").write_text("This is no video.\n" * 99)
    (folder / "text.png").write_text("This is no image.\n" * 99)
    (folder / "noise.mkv").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "link.mp4").symlink_to("gone.mp4")
    (folder / "no_images").mkdir()
    (folder / "no_images" / "notes.txt").write_text("x")
    (folder / "is_a_folder.mp4").mkdir()
    save_frames(folder / "sizes", 2)
    Image.new("RGB", (20, 20)).save(folder / "sizes" / "other.png")
    whole = make_video(folder / "whole.mp4", "-c:v", "libx264", frames=30)
    content = whole.read_bytes()
    (folder / "no_table.mp4").write_bytes(content[: len(content) // 2])
    whole = make_video(folder / "whole.mkv", "-c:v", "libx264", frames=60, size="160x120")
    content = whole.read_bytes()
    (folder / "cut.mkv").write_bytes(content[: len(content) * 3 // 4])
    make_video(folder / "sound.mp4", "-vn", "-c:a", "aac", sound=True)
    make_video(folder / "no_frames.mp4", "-c:v", "libx264", frames=0)
    save_frames(folder, 1)
    image = (folder / "source0.png").read_bytes()
    (folder / "cut.png").write_bytes(image[: len(image) // 2])
    return {
        "missing.mp4": "does not exist",
        "missing/%04d.png": "does not exist",
        "sizes/%04d.png": "no file is named like",
        "empty.mp4": "is empty",
        "empty.png": "is empty",
        "text.mp4": "not a video",
        "text.png": "is not an image",
        "noise.mkv": "not a video",
        "link.mp4": "does not exist",
        "no_images": "has no images",
        "is_a_folder.mp4": "has no images",
        "sizes": "different sizes",
        "no_table.mp4": "cut off",
        "cut.mkv": "--allow-truncated",
        "sound.mp4": "sound only",
        "no_frames.mp4": "no frames",
        "cut.png": "cut.png",
    }


def test_bad_sources(cli: Cli, tmp_path: Path) -> None:
    cases = bad_sources(tmp_path)
    before = names(tmp_path)
    for name, message in cases.items():
        assert_refused(cli(name, *SHORT, "-o", "out/x.mp4"), 2, message)
        assert names(tmp_path) == before, name
    code, _, err = cli("cut.mkv", *SHORT, "-o", "out.mkv", "--allow-truncated", "--frames", "8")
    assert (code, err) == (0, "")


MANY = ("--prompt", "a", "--prompt", "b", "--prompt", "c", "--steps", "2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a source: a video, a picture or a folder of frames"),
        (("source0.png",), "give a prompt"),
        (("source0.png", "--guidance-prompt", "x", *SHORT), "a guidance prompt, not both"),
        (("source0.png", "two.png", *SHORT), "two.png is one argument too many; a text of several"),
        (("source0.png", "source0.png", *SHORT), "give one source, and repeat the command"),
        (("source0.png", *SHORT, "--stesp", "3"),
         "there is no option --stesp; did you mean --steps? (see pnpvideo translate --help)"),
        (("source0.png", *SHORT, "--guidance", "3"), "--guidance"),
        (("source0.png", "--prompt"), "--prompt: expected one argument"),
        (("source0.png", *SHORT, "--steps", "0"), "steps is 0"),
        (("source0.png", *SHORT, "--steps", "few"), "few"),
        (("source0.png", *SHORT, "--inversion-steps", "3"), "inversion_steps is 3"),
        (("source0.png", *SHORT, "--tau-f", "1.5"), "tau_f is 1.5"),
        (("source0.png", *SHORT, "--tau-a", "-0.1"), "tau_a is -0.1"),
        (("source0.png", *SHORT, "--tau-a", "nan"), "tau_a is nan"),
        (("source0.png", *SHORT, "--eta", "2"), "eta is 2"),
        (("source0.png", *SHORT, "--noise-share", "7"), "noise_share is 7"),
        (("source0.png", *SHORT, "--guidance-scale", "-1"), "guidance_scale is -1"),
        (("source0.png", *SHORT, "--negative-schedule", "odd"), "odd"),
        (("source0.png", *SHORT, "--attention-sharing", "all"), "all"),
        (("source0.png", *SHORT, "--keyframes", "some"), "some"),
        (("source0.png", *SHORT, "--keyframe-every", "0"), "keyframe_every is 0"),
        (("source0.png", *SHORT, "--keyframe-window", "0"), "keyframe_window is 0"),
        (("source0.png", *SHORT, "--seed", "-1"), "seed is -1"),
        (("source0.png", *SHORT, "--batch-size", "0"), "batch_size is 0"),
        (("source0.png", *SHORT, "--quality", "0"), "quality is 0"),
        (("source0.png", *SHORT, "--offload", "--device", "cpu"), "offload is for a GPU"),
        (("source0.png", *SHORT, "--size", "32"), "give WIDTHxHEIGHT"),
        (("source0.png", *SHORT, "--size", "0x0"), "multiples of"),
        (("source0.png", *SHORT, "--size", "33x32"), "multiples of"),
        (("source0.png", *SHORT, "--size", "-32x32"), "size"),
        (("source0.png", *SHORT, "--size", "99999996x32"), "up to"),
        (("source0.png", *SHORT, "--start", "1"),
         "start is 1; give at most 0, as source0.png has 1 frame"),
        (("source0.png", *SHORT, "--start", "-1"), "start is -1"),
        (("source0.png", *SHORT, "--frames", "0"), "frames is 0"),
        (("source0.png", *SHORT, "--stride", "0"), "stride is 0"),
        (("source0.png", *SHORT, "--device", "toaster"),
         "device is 'toaster', which is not available; give cuda"),
        (("source0.png", *SHORT, "--dtype", "int8"), "int8"),
        (("source0.png", *SHORT, "--lora", "none.safetensors"), "there is no LoRA file"),
        (("source0.png", *SHORT, "--model-config", "x"), "a model config is for"),
        (("source0.png", *SHORT, "--config", "none.yaml"), "No such file"),
        (("source0.png", *MANY, "--negative-prompt", "d", "--negative-prompt", "e"),
         "2 negative prompts for 3 prompts"),
        (("--guidance-prompt", "x", *SHORT, "--compare"), "no file to compare with"),
    ],
)  # fmt: skip
def test_bad_options(
    cli: Cli, picture: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert_refused(cli(*arguments, "-o", "out.png"), 2, message)
    assert names(tmp_path) == {"source0.png"}


def test_bad_outputs(cli: Cli, tmp_path: Path) -> None:
    save_frames(tmp_path, 1)
    save_frames(tmp_path / "frames", 2)
    (tmp_path / "there.png").write_bytes(b"mine")
    (tmp_path / "mine.png.yaml").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter.txt").write_text("mine")
    before = names(tmp_path)
    for source, output, message in (
        ("source0.png", "there.png", "exists already"),
        ("source0.png", "mine.png", "mine.png.yaml exists already"),
        ("source0.png", "out.xyz", "unknown suffix"),
        ("source0.png", "folder", "not empty"),
        ("source0.png", "there.png/out.png", "is not a folder"),
        ("source0.png", "/proc/nothing/out.png", "/proc"),
        ("frames", "out.png", "is one image, and the source has 2 frames"),
        ("frames", "frames", "not empty"),
    ):
        result = cli(source, *SHORT, "-o", output)
        assert_refused(result, 1 if output.startswith("/proc") else 2, message)
    assert_refused(cli("source0.png", *SHORT, "-o", "folder", "--overwrite"), 2, "letter.txt")
    assert names(tmp_path) == before
    assert (tmp_path / "there.png").read_bytes() == b"mine"
    assert cli("source0.png", *SHORT, "-o", "there.png", "--overwrite")[0] == 0
    assert pixels(tmp_path / "there.png").ndim == 3


def test_a_source_is_never_written_over(cli: Cli, tmp_path: Path) -> None:
    save_frames(tmp_path / "frames", 2)
    save_frames(tmp_path / "single", 1)
    (tmp_path / "linked").symlink_to("frames")
    (tmp_path / "linked.png").symlink_to("single/source0.png")
    make_video(tmp_path / "clip.mp4", "-c:v", "libx264", frames=2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    cases = [
        ("frames", "frames"),
        ("frames", "frames/"),
        ("frames", "single/../frames"),
        ("frames", "linked"),
        ("linked", "frames"),
        ("frames/source%d.png", "frames"),
        ("single/source0.png", "single/source0.png"),
        ("single/source0.png", "linked.png"),
        ("linked.png", "single/source0.png"),
        ("single/source0.png", "single/"),
        ("single", "single/source0.png"),
        ("clip.mp4", "clip.mp4"),
        ("clip.mp4", str(tmp_path / "clip.mp4")),
    ]
    for source, output in cases:
        result = cli(source, *SHORT, "-o", output, "--overwrite")
        assert_refused(result, 2, "write over the source; choose another name")
    assert {path: path.read_bytes() for path in before} == before
    assert (tmp_path / "linked").is_symlink()


def test_bad_models(cli: Cli, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x04.")
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 64)
    (tmp_path / "empty").mkdir()
    for model, message in {
        "stable": "there is no model 'stable'",
        "old.ckpt": "can hold code",
        "gone.ckpt": "there is no model",
        "broken.safetensors": "is not a safetensors file",
        "empty": "no model_index.json",
    }.items():
        assert_refused(cli(str(picture), *SHORT, "-o", "out.png", model=model), 2, message)
    assert not (tmp_path / "out.png").exists()


def test_bad_configs(cli: Cli, picture: Path, tmp_path: Path) -> None:
    for text, message in {
        "promt: x": "there is no option promt; did you mean prompt?",
        "steps: many": "steps is 'many'",
        "size: 5": "size is 5",
        "a: [": "is not YAML",
        "source: gone.png": "gone.png does not exist",
    }.items():
        (tmp_path / "run.yaml").write_text(text)
        given = ("--config", "run.yaml", "--prompt", "x", "-o", "out.png")
        source = () if text.startswith("source") else (str(picture),)
        assert_refused(cli(*source, *given), 2, message)
    assert names(tmp_path) == {"source0.png", "run.yaml"}


def bad_files(folder: Path) -> dict[tuple[str, ...], str]:
    """Makes masks, weights, settings and sound that cannot be used; options that give them."""
    save_frames(folder / "frames", 2)
    Image.new("L", (20, 20)).save(folder / "small-mask.png")
    save_frames(folder / "three-masks", 3)
    (folder / "text.png").write_text("no picture")
    (folder / "broken.safetensors").write_bytes(b"\xff" * 64)
    (folder / "cut.safetensors").write_bytes((2**40).to_bytes(8, "little"))
    save_file({"nothing.weight": torch.zeros(2, 2)}, folder / "strange.safetensors")
    (folder / "old.pt").write_bytes(b"\x80\x04.")
    (folder / "no-parts").mkdir()
    (folder / "no-parts" / "model_index.json").write_text("{}")
    (folder / "no-json").mkdir()
    (folder / "no-json" / "model_index.json").write_text("{")
    (folder / "list.yaml").write_text("- a\n- b\n")
    (folder / "bytes.yaml").write_bytes(b"prompt: \xff\xfe")
    (folder / "job-file").write_text("mine")
    (folder / "job-folder").mkdir()
    (folder / "job-folder" / "letter.txt").write_text("mine")
    one = ("source0.png",)
    return {
        (*one, "--mask", "gone.png"): "gone.png does not exist",
        (*one, "--mask", "text.png"): "text.png is not an image",
        (*one, "--mask", "small-mask.png"): "20",
        ("frames", "--mask", "three-masks"): "3",
        (*one, "--lora", "broken.safetensors"): "broken.safetensors",
        (*one, "--lora", "cut.safetensors"): "cut.safetensors",
        (*one, "--lora", "strange.safetensors"): "strange.safetensors",
        (*one, "--lora", "old.pt"): "old.pt",
        (*one, "--embedding", "broken.safetensors"): "broken.safetensors is not an embedding",
        (*one, "--embedding", "strange.safetensors"): "2 channels and the text encoder 16",
        (*one, "--embedding", "old.pt"): "there is no embedding old.pt",
        (*one, "--model", "no-parts"): "no-parts",
        (*one, "--model", "no-json"): "no-json",
        (*one, "--model", "strange.safetensors"): "strange.safetensors",
        (*one, "--config", "list.yaml"): "hold no 'name: value' lines",
        (*one, "--config", "bytes.yaml"): "is not text",
        (*one, "--config", "frames"): "Is a directory",
        (*one, "--job", "job-file"): "job-file is a file",
        (*one, "--job", "job-folder"): "is not empty and not a job folder",
        (*one, "--log-file", "frames"): "the log file frames cannot be written",
        (*one, "--log-file", "source0.png"): "source0.png is not a log file of pnpvideo",
        ("", *one[1:]): "a path is empty",
        (*one, "--mask", ""): "a path is empty",
        (*one, "--sound", "loud"): "give default, all or none",
        (*one, "--background", "rainbow"): "a colour",
        (*one, "--frame-rate", "0"): "frames per second",
        (*one, "--hdr", "never"): "give map or keep",
    }


def test_bad_files(cli: Cli, picture: Path, tmp_path: Path) -> None:
    cases = bad_files(tmp_path)
    before = names(tmp_path)
    for arguments, message in cases.items():
        own = {"model": None} if "--model" in arguments else {}
        output = "out/" if arguments[0] == "frames" else "out.png"
        assert_refused(cli(*arguments, *SHORT, "-o", output, **own), 2, message)
        assert names(tmp_path) == before, arguments


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (("results", "--job", "results"), "results is the job folder; choose another name"),
        (("results/", "--job", "./results"), "results/ is the job folder; choose another name"),
        (("/", "--overwrite"), "/ holds "),
        (("/proc/made.png",), "/proc/made.png cannot be written: No such file"),
        (("source0.png", "--overwrite"), "source0.png would write over the source"),
    ],
)
def test_outputs_that_are_something_else(
    cli: Cli, picture: Path, tmp_path: Path, output: tuple[str, ...], message: str
) -> None:
    code, out, err = cli(str(picture), *SHORT, "-o", *output)
    assert (code in (1, 2), out, err.count("\n")) == (True, "", 1), err
    assert message in err
    assert names(tmp_path) == {"source0.png"}


def test_no_network(cli: Cli, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_without_answers(monkeypatch) as asked:
        # Nobody knows yet whether it has a transformer, as the option needs.
        own = ("--quantize", "fp8", "-o", "out.png")
        result = cli(str(picture), *SHORT, *own, model="nobody/nothing")
    assert_refused(result, 1, "the hub cannot be reached for the model nobody/nothing")
    assert len(asked) <= 2  # Its own client would ask again and again, for half a minute.
