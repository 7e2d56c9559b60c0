"""Short names of models, names that are none, and the models on this machine."""

import re
from pathlib import Path

import pytest
from command import hub_without_answers, run_script

from pnpvideo.catalogue.find_model import EMBEDDED, check_model, find_model
from pnpvideo.catalogue.here import cached_models, folder_state, models_in
from pnpvideo.catalogue.short_names import replacement_of, short_names
from pnpvideo.cli import main
from pnpvideo.errors import InputError, RunError
from pnpvideo.loading.load import load_model
from pnpvideo.options.declared import declared
from pnpvideo.options.model import ModelSettings
from tools.site.models_table import models_table

DOCS = Path(__file__).parent.parent / "docs"


def test_a_name_is_a_folder_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_model("sd15") == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert find_model("owner/name") == "owner/name"
    assert find_model("embedded") == EMBEDDED
    for name in ("sd15", "owner/name", "embedded"):
        (tmp_path / name).mkdir(parents=True)
    assert find_model("sd15") == Path("sd15")
    assert find_model("owner/name") == Path("owner/name")
    assert find_model("embedded") == EMBEDDED
    assert find_model("./embedded") == Path("embedded")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("sd51", "sd15"),
        ("SD-1.5", "sd15"),
        ("stable-diffusion-v1.5", "sd15"),
        ("Stable Diffusion", "sd15"),
        ("sd2.1", "sd21"),
        ("sd-xl", "sdxl"),
        ("SDXL_1.0", "sdxl"),
        ("wan2.1", "wan21"),
        ("Wan2.1-T2V-14B-Diffusers", "wan21-14b"),
        ("wan-2.2", "wan22"),
        ("TI2V-5B", "wan22-5b"),
        ("embeded", "embedded"),
        ("bundled", "embedded"),
        ("weights/my-mdoel", "weights/my-model"),
        ("weights/stile.safetensors", "weights/style.safetensors"),
        ("qwertz", None),
    ],
)
def test_a_mistyped_name_is_answered_with_the_nearest(
    name: str, nearest: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights" / "my-model").mkdir(parents=True)
    (tmp_path / "weights" / "my-model" / "model_index.json").touch()
    (tmp_path / "weights" / "style.safetensors").touch()
    if name == "weights/my-mdoel":  # It may be an id on the hub.
        name = "./weights/my-mdoel"
        nearest = "weights/my-model"
    with pytest.raises(InputError, match="there is no model") as refused:
        check_model(name)
    found = re.search(r"did you mean (\S+)\? Otherwise give", str(refused.value))
    assert (found and found[1]) == nearest
    assert len(str(refused.value)) < 300


def test_it_is_refused_before_torch_is_imported() -> None:
    script = (
        "import sys\n"
        "from pnpvideo.cli import main\n"
        "for given in ('translate a.png', 'grid a.png -o g', 'visualize a.png -o b.png',\n"
        "              'batch jobs -o r', 'web', 'evaluate pie-bench p -o o'):\n"
        "    prompt = [] if given[0] in 'vwe' else ['--prompt', 'x']\n"
        "    assert main([*given.split(), *prompt, '--model', 'sd51']) == 2, given\n"
        "    assert 'torch' not in sys.modules, given\n"
        "assert main(['words', 'fox']) == 0\n"
        "assert main(['models']) == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = run_script(script)
    assert done.stderr.count("did you mean sd15?") == 6


def test_a_machine_that_is_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    check_model("sd15")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RunError, match="HF_HUB_OFFLINE is set, and the hub's cache has no") as no:
        check_model("sd15")
    assert f"hf download {short_names()['sd15'].id} --local-dir FOLDER" in str(no.value)
    (tmp_path / f"models--{short_names()['sd15'].id.replace('/', '--')}").mkdir()
    check_model("sd15")


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with hub_without_answers(monkeypatch), pytest.raises(RunError) as error:
        load_model("sdxl", cache_dir=tmp_path)
    assert str(error.value) == (
        "the hub cannot be reached for the model stabilityai/stable-diffusion-xl-base-1.0; connect "
        "to the internet, or run 'hf download stabilityai/stable-diffusion-xl-base-1.0 --local-dir "
        "FOLDER' where there is a network, and give that FOLDER as the model"
    )


def test_models_that_were_withdrawn() -> None:
    assert replacement_of("stabilityai/stable-diffusion-2-1") == "sd21"
    assert replacement_of("runwayml/stable-diffusion-v1-5") == "sd15"
    assert replacement_of("owner/name") is None


def _model(folder: Path, *files: str, parts: str = "StableDiffusionPipeline") -> Path:
    folder.mkdir(parents=True)
    names = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    listed = "".join(f', "{name}": ["library", "Class"]' for name in names)
    (folder / "model_index.json").write_text(f'{{"_class_name": "{parts}"{listed}}}')
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text("x")
    return folder


WHOLE = (
    "unet/a.safetensors",
    "vae/a.fp16.safetensors",
    "text_encoder/model.safetensors",
    "tokenizer/vocab.json",
    "scheduler/scheduler_config.json",
)


@pytest.mark.parametrize(
    ("files", "state"),
    [
        (WHOLE, "complete"),
        (WHOLE[1:], "lacks the weights of unet"),
        (("unet/a.bin", *WHOLE[1:]), "lacks the weights of unet, whose files can hold code"),
        (WHOLE[:3], "lacks the weights of tokenizer, scheduler"),
    ],
)
def test_the_state_of_a_folder(files: tuple[str, ...], state: str, tmp_path: Path) -> None:
    assert folder_state(_model(tmp_path / "model", *files)).startswith(state)


@pytest.mark.parametrize("text", ["", "[]", "\x00", "[" * 100_000, '{"unet": [1]}'])
def test_a_damaged_index_is_a_state(text: str, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(text)
    assert folder_state(tmp_path) == "its model_index.json is damaged"


def test_models_that_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                              capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    hub = tmp_path / "hub"
    kept = hub / "models--owner--name"
    _model(kept / "snapshots" / ("0" * 40), *WHOLE)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0" * 40)
    (hub / "models--owner--encoder" / "snapshots").mkdir(parents=True)
    assert [(one.name, one.state) for one in cached_models(hub)] == [("owner/name", "complete")]
    assert list(cached_models(tmp_path / "gone")) == []
    work = tmp_path / "work"
    _model(work / "sd15", *WHOLE)
    _model(work / "half", *WHOLE[2:])
    (work / "other").mkdir()
    assert [(one.name, one.state) for one in models_in(work)] == [
        ("./half", "lacks the weights of unet, vae"),
        ("./sd15", "complete"),
    ]
    monkeypatch.chdir(work)
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"sd15 .* the folder or file sd15 here goes first", out)
    assert re.search(r"sdxl .* 13.9 GB to download", out)
    assert re.search(r"\./half +0\.0 GB +lacks the weights of unet, vae", out)


def test_the_table_and_the_help_have_every_name() -> None:
    assert models_table() in (DOCS / "models.md").read_text(encoding="utf-8")
    described = declared(ModelSettings)["model"]["description"]
    for name, model in short_names().items():
        assert re.search(rf"\b{name}\b", described)
        assert model.download > 0
