from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from pnpvideo.errors import InputError
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import GROUPS, Settings
from pnpvideo.options.settings_file import read_settings, write_settings

LEAST: dict[str, Any] = {"source": "a.mp4", "prompt": "a stone"}


def test_texts_may_be_one_or_several() -> None:
    assert Settings.of(LEAST).prompt == ("a stone",)
    several = Settings.of(LEAST | {"prompt": ["a stone", "a tree"], "negative_prompt": "grey"})
    assert several.prompt == ("a stone", "a tree")
    assert several.negative_prompt == ("grey",)
    assert Settings.of({"source": Path("a.mp4"), "prompt": "x"}).source == "a.mp4"


def test_numbers_keep_their_value() -> None:
    settings = Settings.of(LEAST | {"tau_f": 1, "steps": 4, "size": "64x48", "compare": True})
    assert (settings.tau_f, settings.steps, settings.size) == (1, 4, (64, 48))
    assert settings.compare is True
    assert Settings.of(LEAST | {"size": [64, 48], "steps": None}).size == (64, 48)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", "four"),
        ("steps", 4.0),
        ("steps", True),
        ("seed", None),
        ("seed", -1),
        ("seed", 10**30),
        ("batch_size", 0),
        ("quality", 0),
        ("quality", 101),
        ("tau_f", "0.5"),
        ("tau_f", True),
        ("tau_f", [0.5]),
        ("compare", 1),
        ("compare", "yes"),
        ("prompt", 5),
        ("prompt", [5]),
        ("prompt", None),
        ("lora", {"a": 1}),
        ("model", None),
        ("model", 5),
        ("output", ["a.mp4"]),
        ("size", 64),
        ("size", [64]),
        ("size", [64, 48, 3]),
        ("size", ["64", "48"]),
        ("size", [64.0, 48.0]),
        ("size", "64"),
        ("size", "64x"),
        ("size", "64x48x3"),
    ],
)
def test_wrong_values_are_named(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} is "):
        Settings.of(LEAST | {name: value})


def test_limits_are_told() -> None:
    for values, message in (
        ({"seed": 10**30}, f"give a whole number from 0 to {2**63 - 1}"),
        ({"quality": 101}, "quality is 101; give a whole number from 1 to 100"),
        ({"frames": 0}, "frames is 0; give a whole number from 1 to 1000000000"),
        ({"compare": "yes"}, "compare is 'yes'; give true or false"),
        ({"prompt": 5}, "prompt is 5; give a text or a list of texts"),
        ({"size": "64x"}, "size is '64x'; give WIDTHxHEIGHT, such as 640x384"),
        ({"trajectory": "tape"}, "trajectory is 'tape'; give auto, memory or disk"),
        ({"model_config": 5}, "model_config is 5; give a text"),
        ({"frame_count": 0}, "frames is 0; give a whole number from 1 to 1000000000"),
        ({"frame_cuont": 5}, "there is no option frame_cuont; did you mean frame_count?"),
        ({"frames": 5, "frame_count": 6}, "frames and frame_count are the same option; give one"),
    ):
        with pytest.raises(InputError, match=message):
            Settings.of(LEAST | values)


def test_what_does_not_go_together() -> None:
    with pytest.raises(InputError, match="there is no option stesp; did you mean steps"):
        Settings.of(LEAST | {"stesp": 3})
    with pytest.raises(InputError, match="give a source: a video, a picture"):
        Settings.of({"prompt": "x"})
    with pytest.raises(InputError, match="either a source or a guidance prompt"):
        Settings.of(LEAST | {"guidance_prompt": "x"})
    with pytest.raises(InputError, match="give a prompt"):
        Settings.of(LEAST | {"prompt": []})
    with pytest.raises(InputError, match="2 negative prompts for 3 prompts"):
        Settings.of(LEAST | {"prompt": ["a", "b", "c"], "negative_prompt": ["d", "e"]})


@pytest.mark.parametrize("given", ["640x384", "640X384", [640, 384], (640, 384)])
def test_size(given: Any) -> None:
    assert Settings.of(LEAST | {"size": given}).size == (640, 384)


@pytest.mark.parametrize(
    ("given", "rate"),
    [(12, 12), ("25", 25), (23.976, Fraction(2997, 125)), ("24000/1001", Fraction(24000, 1001))],
)
def test_frame_rate_comes_back_exactly(tmp_path: Path, given: Any, rate: Fraction) -> None:
    settings = Settings.of(LEAST | {"frame_rate": given})
    assert settings.frame_rate == rate
    write_settings(settings, tmp_path / "run.yaml", {"output": "out.mp4"})
    assert Settings.of(read_settings(tmp_path / "run.yaml")).frame_rate == rate


@pytest.mark.parametrize("given", [0, -3, "fast", "1/0", 1e9, True])
def test_a_frame_rate_that_is_none(given: Any) -> None:
    with pytest.raises(InputError, match=r"frame_rate is .*; give frames per second above 0"):
        Settings.of(LEAST | {"frame_rate": given})


def test_paths_start_from_the_files_folder(tmp_path: Path) -> None:
    folder = tmp_path / "there"
    (folder / "models" / "own").mkdir(parents=True)
    file = folder / "run.yaml"
    file.write_text(
        "source: clips/a.mp4\noutput: out.v1/\nmodel: models/own\nlora: [x.safetensors, /y]\n"
        "model_config: config\nprompt: x\n"
    )
    values = read_settings(file)
    assert values == {
        "source": f"{folder}/clips/a.mp4",
        "output": f"{folder}/out.v1/",
        "model": f"{folder}/models/own",
        "lora": [f"{folder}/x.safetensors", "/y"],
        "model_config": f"{folder}/config",
        "prompt": "x",
    }
    for name in ("embedded", "owner/name"):
        file.write_text(f"model: {name}\nsource: null\n")
        assert read_settings(file) == {"model": name, "source": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "hold no 'name: value' lines"),
        (b"- a\n- b\n", "hold no 'name: value' lines"),
        (b"a: [1, 2\nb: 3\n", "is not YAML"),
        (b"a: !!python/object/apply:os.getcwd []\n", "is not YAML"),
        (b"\xff\xfe\x00", "is not text|is not YAML"),
        (b"promt: x\n", "there is no option promt; did you mean prompt"),
        (b"5: x\n", "there is no option 5"),
    ],
)
def test_wrong_files(tmp_path: Path, text: bytes, message: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(text)
    with pytest.raises(InputError, match=message):
        read_settings(file)


def test_an_option_can_be_given_by_the_name_that_it_is_read_by(tmp_path: Path) -> None:
    for options in GROUPS.values():
        for name, field in options.model_fields.items():
            if field.alias is not None:
                value = {"frame_count": 3, "config_folder": "x"}[name]
                assert getattr(options.of({name: value}), name) == value
                assert options.of({name: value}) == options.of({field.alias: value})
    file = tmp_path / "run.yaml"
    file.write_text("frame_count: 3\n")
    assert read_settings(file) == {"frames": 3}
    file.write_text("frame_count: 3\nframes: 4\n")
    with pytest.raises(InputError, match="hold frames twice; give it once"):
        read_settings(file)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_settings(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_settings(tmp_path)


def test_written_settings_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    settings = Settings(
        source="frames/%04d.png",
        prompt=("a stone: grey", "drei Bäume\n# two lines", "no"),
        negative_prompt=("", "b", "null"),
        inversion_prompt="'quoted'",
        output="out.v2/",
        model="model",
        lora=("a.safetensors",),
        size=(64, 48),
        tau_f=0.1 + 0.2,
        compare=True,
        frames=3,
    )
    file = tmp_path / "elsewhere.yaml"
    write_settings(settings, file, {"steps": 12, "tau_a": 0.5})
    monkeypatch.chdir("/")
    again = Settings.of(read_settings(file))
    for name, value in {
        "source": f"{tmp_path}/frames/%04d.png",
        "output": f"{tmp_path}/out.v2/",
        "model": f"{tmp_path}/model",
        "lora": (f"{tmp_path}/a.safetensors",),
        "steps": 12,
        "tau_a": 0.5,
    }.items():
        assert getattr(again, name) == value
        object.__setattr__(again, name, getattr(settings, name))
    assert again == settings
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["elsewhere.yaml"]


def test_written_settings_replace_nothing_unasked(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        write_settings(Settings.of(LEAST), file, {})
    assert file.read_text() == "mine"
    write_settings(Settings.of(LEAST), file, {}, overwrite=True)
    assert yaml.safe_load(file.read_text())["prompt"] == ["a stone"]


def test_a_file_of_an_earlier_version_loads(tmp_path: Path) -> None:
    """As the version before the declared options wrote it, with every name that it had."""
    file = tmp_path / "run.yaml"
    file.write_text(OLD_FILE)
    settings = Settings.of(read_settings(file))
    assert (settings.source, settings.output) == (f"{tmp_path}/in.mp4", f"{tmp_path}/out.mp4")
    assert (settings.frame_count, settings.frame_rate) == (4, Fraction(24000, 1001))
    assert (settings.lora, settings.size) == ((f"{tmp_path}/a.safetensors",), (64, 48))
    assert settings.config_folder == f"{tmp_path}/config"
    assert (settings.trajectory, settings.trajectory_precision) == ("disk", "full")
    options = settings.resolve(PnPOptions(steps=7, tau_f=0.3, keyframe_window=9))
    assert (options.steps, options.inversion_steps, options.tau_f) == (15, 30, 0.8)
    assert (options.negative_schedule, options.keyframe_window) == ("exp", 4)
    write_settings(settings, tmp_path / "again.yaml", options.plain())
    again, before = (
        yaml.safe_load((tmp_path / name).read_text()) for name in ("again.yaml", "run.yaml")
    )
    # Options that came later are written beside them.
    assert before.keys() <= again.keys()
    paths = ("source", "output", "lora", "model_config", "job")
    kept = before.keys() - set(paths)
    assert {name: again[name] for name in kept} == {name: before[name] for name in kept}


OLD_FILE = """\
source: in.mp4
prompt:
- a stone
negative_prompt: []
inversion_prompt: ''
output: out.mp4
model: embedded
model_config: config
lora:
- a.safetensors
device: cpu
dtype: float32
offload: false
preset: fast
steps: 15
inversion_steps: 30
inversion_iterations: 1
guidance_scale: 7.5
guidance_start: 0.0
guidance_end: 1.0
tau_f: 0.8
tau_a: 0.5
negative_alpha: 1.0
negative_schedule: exp
noise_share: 0.0
noise_source: gaussian
noise_motion: false
eta: 0.0
attention_sharing: none
keyframes: random
keyframe_every: 8
keyframe_window: 4
blend_radius: 2
seed: 0
batch_size: 4
size: 64x48
original_size: false
start: 0
frames: 4
stride: 1
frame_rate: 24000/1001
allow_truncated: false
quality: 80
compare: false
check_inversion: false
job: job
trajectory: disk
trajectory_precision: full
"""
