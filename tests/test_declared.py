"""An option is declared once: all faces know it from there, and none of them needs torch."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated

import pytest
from command import assert_refused, run_script, subprocess_run
from pydantic import Field

import pnpvideo
from pnpvideo.cli import main
from pnpvideo.clips.read_options import ReadOptions
from pnpvideo.errors import InputError
from pnpvideo.options.declared import Lifetime, Options, declared
from pnpvideo.options.grid import read_axes
from pnpvideo.options.method import MethodOptions
from pnpvideo.options.settings import Settings
from pnpvideo.options.values import DEFAULT_PLACE, DEFAULT_PRECISION
from pnpvideo.options.web import WebOptions

PACKAGE = Path(pnpvideo.__file__).parent
NEW = """
    zeta: Annotated[Share, Lifetime.SAMPLING] = Field(default=0.25, description="how new it is")
    mood: Annotated[Literal["glad", "sad"], Lifetime.FINISHING] = Field(
        default="glad", description="how it looks"
    )
"""


@pytest.fixture(scope="module")
def with_new_options(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package in which two more options are declared."""
    folder = tmp_path_factory.mktemp("declared")
    shutil.copytree(
        PACKAGE, folder / "pnpvideo", ignore=shutil.ignore_patterns("embedded", "__pycache__")
    )
    file = folder / "pnpvideo" / "options" / "method.py"
    before, after = file.read_text().split("    tau_f: ", 1)
    file.write_text(f"{before}{NEW}    tau_f: {after}")
    return folder


def python(folder: Path, script: str) -> str:
    return run_script(script, cwd=folder, env={}).stdout


def command(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess_run("translate", *arguments, cwd=folder, env={})
    return done.returncode, done.stdout, done.stderr


def test_the_command_line(with_new_options: Path) -> None:
    code, out, _ = command(with_new_options, "--help", "all")
    assert code == 0
    assert "--zeta X" in out
    assert "how new it is (0.25)" in out
    assert "--mood {glad,sad}" in out
    assert "how it looks (glad)" in out
    for arguments, message in (
        (("--zeta", "1.5"), "zeta is 1.5; give a number from 0 to 1"),
        (("--zeta", "much"), "zeta is 'much'; give a number from 0 to 1"),
        (("--mood", "bad"), "mood is 'bad'; give glad or sad"),
        (("--zeto", "1"), "there is no option --zeto; did you mean --zeta?"),
        # Its value is read, so that what is missing is told.
        (("--zeta", "0.5", "--mood", "sad"), "give a source: a video"),
    ):
        assert_refused(command(with_new_options, *arguments), 2, message)


def test_a_settings_file(with_new_options: Path) -> None:
    for text, message in (
        ("zeta: 1.5", "zeta is 1.5; give a number from 0 to 1"),
        ("mood: bad", "mood is 'bad'; give glad or sad"),
        ("zeto: 1", "there is no option zeto; did you mean zeta?"),
        ("zeta: 0.5", "give a source: a video"),
    ):
        (with_new_options / "run.yaml").write_text(text)
        assert_refused(command(with_new_options, "--config", "run.yaml"), 2, message)
    script = """
from pathlib import Path
from pnpvideo import PnPOptions, Settings
from pnpvideo.options.settings_file import read_settings, write_settings
settings = Settings(source="a", prompt=("b",), zeta=0.75)
write_settings(settings, Path("written.yaml"), settings.resolve(PnPOptions()).plain())
again = Settings.of(read_settings(Path("written.yaml")))
print(again.zeta, again.mood)
"""
    assert python(with_new_options, script) == "0.75 glad\n"


def test_python_and_the_schema(with_new_options: Path) -> None:
    script = """
import json
from pnpvideo import InputError, PnPOptions
from pnpvideo.options.declared import Lifetime
from pnpvideo.options.settings import Settings
assert PnPOptions(zeta=1).zeta == 1
for wrong in ({"zeta": 1.5}, {"mood": "bad"}, {"zeto": 1}):
    try:
        PnPOptions().override(wrong)
    except InputError as error:
        print(error)
print(PnPOptions(mood="sad").identity(Lifetime.FINISHING)["mood"])
assert "zeta" in PnPOptions().identity(Lifetime.SAMPLING)
for options in (PnPOptions, Settings):
    print(json.dumps(options.model_json_schema()["properties"]))
"""
    lines = python(with_new_options, script).splitlines()
    assert lines[:4] == [
        "zeta is 1.5; give a number from 0 to 1",
        "mood is 'bad'; give glad or sad",
        "there is no option zeto; did you mean zeta?",
        "sad",
    ]
    for line in lines[4:]:
        schema = json.loads(line)
        zeta, mood = schema["zeta"], schema["mood"]
        assert (zeta["type"], zeta["minimum"], zeta["maximum"]) == ("number", 0, 1)
        assert (zeta["default"], zeta["description"]) == (0.25, "how new it is")
        assert (mood["enum"], mood["default"]) == (["glad", "sad"], "glad")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--help"], 0, "Translate a video"),
        (["--version"], 0, f"pnpvideo {pnpvideo.__version__}"),
        (["translate", "--help"], 0, "--tau-f"),
        ([], 0, "Translate a video"),
        (["--verison"], 2, "there is no option --verison; did you mean --version?"),
        (["--verison", "translate"], 2, "did you mean --version? (see pnpvideo --help)"),
        (["translat", "a.mp4"], 2, "there is no command translat; did you mean translate?"),
        (["translate", "--tauf", "1"], 2, "did you mean --tau-f? (see pnpvideo translate --help)"),
        (["translate", "a.mp4", "--config", "wrong.yaml"], 2, "steps is 'many'; give a whole"),
        (["translate", "a.mp4", "--prompt", "x", "--tau-f", "2"], 2, "tau_f is 2.0; give a number"),
    ],
)
def test_faces_need_no_torch(tmp_path: Path, arguments: list[str], code: int, text: str) -> None:
    (tmp_path / "wrong.yaml").write_text("steps: many")
    script = f"""
import sys
from pnpvideo.cli import main
try:
    code = main({arguments})
except SystemExit as exited:
    code = exited.code
heavy = {{"torch", "numpy", "diffusers", "transformers", "cv2", "PIL"}} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    assert text in done.stdout + done.stderr


def test_public_names_are_imported_when_asked_for(tmp_path: Path) -> None:
    script = """
import sys
import pnpvideo
assert "torch" not in sys.modules
import pnpvideo.run.run, pnpvideo.commands.translate
assert type(pnpvideo.translate).__name__ == "function"
for name in pnpvideo.__all__:
    assert getattr(pnpvideo, name).__name__ == name
    assert name in dir(pnpvideo)
from pnpvideo import *
print(translate.__module__, PnPVideoPipeline.__module__)
try:
    pnpvideo.nothing
except AttributeError as error:
    print(error)
"""
    done = run_script(script, cwd=tmp_path)
    assert done.stdout.splitlines() == [
        "pnpvideo.run.run pnpvideo.pipelines.stable_diffusion",
        "module 'pnpvideo' has no attribute 'nothing'",
    ]


def test_no_default_and_no_limit_stands_a_second_time() -> None:
    """Outside options/, no parameter or field named like an option has its default as a literal of
    its own, and no InputError comes from comparing an option with a number."""
    defaults = {"place": DEFAULT_PLACE, "precision": DEFAULT_PRECISION}
    for options in (Settings, ReadOptions):
        for name, field in options.model_fields.items():
            defaults |= {name: field.default, field.alias or name: field.default}
    again = [
        f"{path.name}:{line}: {name}"
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "options"
        for line, name, value in _literals(ast.parse(path.read_text(encoding="utf-8")))
        if name in defaults and value in (defaults[name], LIMIT)
    ]
    assert again == []


LIMIT = object()


def _literals(tree: ast.AST) -> Iterator[tuple[int, str, object]]:
    """Lines and names of parameters and fields with their defaults, and of compared names with
    LIMIT. Defaults that are None, false or empty say that nothing was chosen; they are left out.
    """
    for node in ast.walk(tree):
        pairs: list[tuple[str, ast.expr | None]] = []
        if isinstance(node, ast.FunctionDef):
            given = node.args
            last = [*given.posonlyargs, *given.args][::-1]
            pairs += [(x.arg, y) for x, y in zip(last, given.defaults[::-1], strict=False)]
            pairs += [(x.arg, y) for x, y in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            pairs.append((node.target.id, node.value))
        elif isinstance(node, ast.If) and "raise InputError" in ast.unparse(node.body[0]):
            for compared in ast.walk(node.test):
                if isinstance(compared, ast.Compare):
                    sides = [compared.left, *compared.comparators]
                    if any(isinstance(side, ast.Constant) and side.value for side in sides):
                        names = [ast.unparse(side).rpartition(".")[2] for side in sides]
                        yield from ((node.lineno, name, LIMIT) for name in names)
        for name, value in pairs:
            if isinstance(value, ast.Constant) and value.value:
                yield node.lineno, name, value.value


def all_options() -> list[type[Options]]:
    """Every class of options that the package declares."""
    for path in PACKAGE.glob("options/*.py"):
        import_module(f"pnpvideo.options.{path.stem}".removesuffix(".__init__"))
    found, left = [], [Options]
    while left:
        subclasses = left.pop().__subclasses__()
        found += [one for one in subclasses if one.__module__.startswith("pnpvideo.")]
        left += subclasses
    return found


def test_every_option_says_what_it_changes_first() -> None:
    seen = set()
    for options in all_options():
        for name in options.model_fields:
            assert isinstance(options.lifetime(name), Lifetime)
            seen.add(name)
    # Of each command's own options too.
    assert {"tau_f", "device", "mask", "ip_adapter", "ray", "port", "network", "json_lines"} <= seen
    with pytest.raises(TypeError, match=r"Careless\.size is declared without a Lifetime"):

        class Careless(Options):
            size: int = 3


def test_every_number_has_a_least_and_a_most() -> None:
    """Nothing that is given lets a run go on for ever, or fill the memory by itself."""
    seen = set()
    for options in all_options():
        fields = {x.alias or name: x for name, x in options.model_fields.items()}
        required: dict[str, object] = {name: "x" for name, x in fields.items() if x.is_required()}
        required |= {"benchmark": "manifest"} if "benchmark" in required else {}
        for name, schema in declared(options).items():
            if schema.get("type") not in ("integer", "number"):
                continue
            most = schema["maximum"]
            least = schema.get("minimum", schema.get("exclusiveMinimum"))
            assert least is not None, name
            assert 0 <= least < most < 2**63, name
            for wrong in (least - 1, most + 1 if most < 2**62 else 10**30, 10**5000, -(10**5000)):
                with pytest.raises(InputError) as raised:
                    options.of(required | {name: wrong})
                assert f"{name} is " in str(raised.value)
                assert len(str(raised.value)) < 400
            seen.add(name)
    assert {"steps", "inversion_iterations", "guidance_scale", "blend_radius", "workers"} <= seen
    with pytest.raises(InputError, match="keep_hours is 0; give a number above 0 and up to 100000"):
        WebOptions(keep_hours=0)
    for text in ("steps", "inversion_iterations"):
        with pytest.raises(InputError, match="whole number from 1 to"):
            Settings.of({"source": "a", "prompt": "b", text: 10**9})
    many = [f"{name}={','.join(str(i / 200) for i in range(101))}" for name in ("tau_f", "tau_a")]
    with pytest.raises(InputError, match="grid has 10201 combinations; give at most 10000"):
        read_axes(many)


def test_what_settings_change() -> None:
    by_lifetime: dict[Lifetime, set[str]] = {one: set() for one in Lifetime}
    for name in Settings.model_fields.keys() - MethodOptions.model_fields.keys():
        by_lifetime[Settings.lifetime(name)].add(name)
    assert by_lifetime == {
        Lifetime.INVERSION: {
            *("source", "guidance_prompt", "inversion_prompt", "size", "control_image"),
            *("start", "frame_count", "stride", "background", "hdr"),
            *("model", "config_folder", "prediction_type", "lora", "embedding", "controlnet"),
            *("ip_adapter", "image_encoder", "ip_adapter_scale", "dtype", "quantize"),
            *("preset", "trajectory_precision"),
        },
        Lifetime.SAMPLING: {
            *("prompt", "negative_prompt", "seed", "ip_adapter_image"),
            *(
                "mask",
                "mask_from_prompt",
                "mask_motion",
                "invert_mask",
                "mask_feather",
                "mask_label",
            ),
        },
        Lifetime.FINISHING: {
            *("output", "compare", "original_size", "keep_alpha", "quality", "sound"),
            "frame_rate",
        },
        Lifetime.MEASURING: {"check_inversion"},
        Lifetime.NOTHING: {
            *("device", "offload", "offload_layers", "job", "trajectory", "batch_size", "reader"),
            *("max_pixels", "max_frames", "allow_truncated"),
        },
    }


def test_an_option_affects_all_that_comes_later() -> None:
    settings = Settings.of({"source": "a", "prompt": "b", "tau_f": 0.5, "steps": 4})
    before: dict[str, object] = {}
    for part in Lifetime:
        values = settings.affecting(part)
        assert values == before | {
            name: value for name, value in values.items() if settings.lifetime(name) == part
        }
        before = values
    first = settings.affecting(Lifetime.INVERSION)
    assert (first["steps"], first["source"], first["frame_count"]) == (4, "a", None)
    assert not first.keys() & {"tau_f", "prompt", "device"}
    # What is left to the model is not known here.
    assert "tau_a" not in settings.affecting(Lifetime.NOTHING)
    assert settings.affecting(Lifetime.SAMPLING)["tau_f"] == 0.5


def test_a_required_option_is_asked_for() -> None:
    class Errand(Options):
        goods: Annotated[str, Lifetime.NOTHING] = Field(
            description="what to buy", json_schema_extra={"missing": "something to buy"}
        )
        count: Annotated[int, Lifetime.NOTHING] = Field(ge=1, description="how many")

    for values, message in (
        ({}, "give something to buy"),
        ({"goods": "apples"}, "give count: a whole number of at least 1"),
        ({"goods": "apples", "count": 0}, "count is 0; give a whole number of at least 1"),
        ({"goods": None, "count": 1}, "goods is None; give a text"),
    ):
        with pytest.raises(InputError) as error:
            Errand.of(values)
        assert str(error.value) == message


def test_the_names_that_the_help_offers_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["translate", "--no-compare", "--compare"]) == 2
    assert "give a source" in capsys.readouterr().err
