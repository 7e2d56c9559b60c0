"""The things that people meet first: a short help, other tools' names, the plan of a run, and
messages about what was not given.
"""

import json
import logging
import re
import shutil
from pathlib import Path

import pytest
from command import SHORT, Cli, assert_refused, save_frames
from PIL import Image

from pnpvideo.cli import COMMANDS, main
from pnpvideo.clips.find_images import are_unrelated
from pnpvideo.options.other_names import OTHER_NAMES
from pnpvideo.options.settings import Settings
from pnpvideo.options.settings_file import read_settings
from pnpvideo.run.plan_text import size_text


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as exited:
        main(["translate", *arguments])
    assert exited.value.code == 0
    return capsys.readouterr().out


def test_the_help_is_one_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    short = help_of(capsys, "--help")
    assert short == help_of(capsys, "a.mp4", "--prompt", "x", "-h")
    assert short.count("\n") <= 42
    assert len(re.findall(r"^  (?:-o OUT, )?--\w", short, re.MULTILINE)) == 12
    assert short.index("--model") < short.index("examples:")
    assert "'pnpvideo translate --help all' describes every option, such as --mask" in short
    assert {"--mask", "--method", "--strength"} <= set(re.findall(r"--[a-z]+", short))
    everything = help_of(capsys, "--help", "all")
    assert everything.count("\n") > 150
    for title in COMMANDS["translate"].sections:
        assert f"\n{title}:\n" in everything


def test_defaults_are_those_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert "(20 with this model, 50 in the paper)" in help_of(capsys, "--help", "all")
    (tmp_path / "pnp.json").write_text('{"options": {"tau_f": 0.25}}')
    for given in (["--model", str(tmp_path)], [f"--model={tmp_path}"]):
        out = help_of(capsys, *given, "--help")
        assert "(0.25 with this model, 0.8 in the paper)" in out
        assert "follows the prompt (7.5)" in out
    for text in ("", "[]", '{"options": 1}', "[" * 100_000):
        (tmp_path / "pnp.json").write_text(text)
        assert "features (0.8)" in help_of(capsys, "--help", "--model", str(tmp_path))
    assert "features (0.8)" in help_of(capsys, "--help", "--model", "sd15")
    assert "features (1 with this model" in help_of(capsys, "--help", "--model")


@pytest.mark.parametrize(
    ("flag", "ours"),
    [
        ("--fps", "; here it is --frame-rate "),
        ("--denoise", "; here it is --strength"),
        ("--cfg", "; here it is --guidance-scale "),
        ("--CFG-Scale", "; here it is --guidance-scale "),
        ("--negative", "; here it is --negative-prompt "),
        ("--out", "; here it is --output "),
        ("--num_inference_steps", "; here it is --steps "),
        ("--width=512", "; here it is --size WIDTHxHEIGHT "),
        ("--ckpt", "; here it is --model "),
        ("--fp16", "; here it is --dtype "),
        ("--input", "; give the source itself, without a flag "),
        ("-i", "; give the source itself, without a flag "),
        ("--guidance_scal", "; did you mean --guidance-scale? "),
        ("--zzzz", " (see"),
    ],
)
def test_names_of_other_tools(flag: str, ours: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["translate", "a.mp4", "--prompt", "x", flag, "1"])
    message = f"there is no option {flag.partition('=')[0]}{ours}"
    assert_refused((code, *capsys.readouterr()), 2, message)


def test_every_other_name_leads_to_an_option_of_some_command(tmp_path: Path) -> None:
    known = {
        name: options
        for command in COMMANDS.values()
        for options in command.sections.values()
        for name in [field.alias or name for name, field in options.model_fields.items()]
    }
    for name, (option, _) in OTHER_NAMES.items():
        assert option in known, name
        assert name not in Settings.model_fields or name == "frame_count", name
    (tmp_path / "run.yaml").write_text("fps: 3")
    with pytest.raises(ValueError, match="there is no option fps; here it is frame_rate"):
        read_settings(tmp_path / "run.yaml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.mp4", "a red fox"], "did you forget --prompt? Write --prompt 'a red fox' "),
        (["a.mp4", "a", "red", "fox"], "did you forget --prompt? Write --prompt 'a red fox' "),
        (["a.mp4", "it's"], "did you forget --prompt? Write --prompt "),
        (["a.mp4", "x" * 200], "did you forget --prompt? Write --prompt TEXT "),
        (["a.mp4", "--prompt", "a", "red"], "a text of several words needs quotes"),
        (["a.mp4", "b.mp4", "--prompt", "a"], "the name of a result needs -o"),
    ],
)
def test_a_prompt_without_its_flag(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused((main(["translate", *arguments]), *capsys.readouterr()), 2, message)


@pytest.mark.parametrize(
    ("size", "of_source", "text"),
    [
        (
            (296, 224),
            (320, 240),
            "296 x 224 (source 320 x 240; --original-size enlarges the result)",
        ),
        (
            (296, 224),
            (296, 240),
            "296 x 224 (source 296 x 240; --original-size enlarges the result)",
        ),
        ((320, 240), (320, 240), "320 x 240"),
        ((512, 384), (320, 240), "512 x 384 (source 320 x 240)"),
        (
            (512, 224),
            (320, 240),
            "512 x 224 (source 320 x 240; --original-size enlarges the result)",
        ),
        ((256, 256), None, "256 x 256"),
    ],
)
def test_a_result_of_another_size_says_so(
    size: tuple[int, int], of_source: tuple[int, int] | None, text: str
) -> None:
    assert size_text(size, of_source) == text
    # On the page there is no such flag.
    plain = text.replace("; --original-size enlarges the result", "")
    assert size_text(size, of_source, hint="") == plain


def test_a_run_says_what_it_will_do(
    cli: Cli, tmp_path: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pnpvideo")
    save_frames(tmp_path / "walk", 3, 96, 64)
    shutil.copytree(tiny_model, tmp_path / "m", copy_function=lambda a, b: Path(b).symlink_to(a))
    code, out, _ = cli("walk", *SHORT, "-o", "out.mp4", "--preview", "--json", model="m")
    assert code == 0
    assert json.loads(out.splitlines()[-1])["event"] == "preview"
    assert (
        "walk: 1 frame of 40 x 28 (source 96 x 64; --original-size enlarges the result) "
        "with m, 2 steps" in (caplog.messages)
    )
    Image.new("L", (48, 32)).save(tmp_path / "mask.png")
    Image.new("RGB", (48, 32)).save(tmp_path / "small.png")
    with Image.open(tmp_path / "mask.png") as mask:
        mask.paste(255, (8, 8, 30, 30))
        mask.save(tmp_path / "mask.png")
    masked = ("--mask", "mask.png", "--size", "96x64", "-o", "out.png", "--steps", "1")
    assert cli("small.png", "--prompt", "a stone", *masked, model="m")[0] == 0
    assert (
        "small: 1 frame of 96 x 64 (source 48 x 32; --original-size keeps it, and each pixel "
        "outside the mask) with m, 1 step"
    ) in caplog.messages
    assert any(re.match(r"at this pace all 3 frames take about \d\d:\d\d", one)
               for one in caplog.messages)  # fmt: skip


@pytest.mark.parametrize(
    ("names", "unrelated"),
    [
        (("cat", "dog", "fox"), True),
        (("IMG", "holiday", "me"), False),
        (("beach", "Paris at night", "portrait"), True),
        (("1", "2", "10"), False),
        (("a", "b", "c"), False),
        (("frame1", "frame2"), False),
        (("walk-left", "walk-right"), False),
        (("cat2", "dog3"), False),
        (("cat",), False),
    ],
)
def test_a_folder_of_unrelated_pictures(names: tuple[str, ...], unrelated: bool) -> None:
    assert are_unrelated([Path(f"{name}.png") for name in names]) == unrelated
