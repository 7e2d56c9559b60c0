"""`pnpvideo evaluate` from the data of each benchmark to its page, twice, and what may go wrong."""

import csv
import html
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import benchmarks as made
import numpy as np
import pytest
import torch
from command import names, pixels
from flow_models import save_tiny_wan
from forked import start
from PIL import Image
from safetensors.torch import save_file
from test_read_benchmarks import MAKE

from pnpvideo.cli import main
from pnpvideo.evaluation import networks
from pnpvideo.evaluation.evaluate import evaluate
from pnpvideo.evaluation.run_folder import RunFolder
from pnpvideo.options.evaluation import EvaluationSettings
from pnpvideo.stages import edit

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return made.save_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def run(
    tiny_model: Path,
    tmp_path: Path,
    places: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs `pnpvideo evaluate NAME data -o out` in this process: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()

    def call(name: str, *more: str, data: str = "data") -> tuple[int, str, str]:
        given = ["evaluate", name, data, "-o", "out", "--model", str(tiny_model), "--steps", "2"]
        networks = [f"--network={role}={place}" for role, place in places.items()]
        code = main([*given, *networks, "--quiet", *more])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """How often sources are opened, results sampled, and networks loaded."""
    counts = {"open_source": 0, "sample": 0, "load": 0}
    for owner, name in ((edit, "open_source"), (edit, "sample")):
        count_calls(monkeypatch, owner, name, counts, name)
    count_calls(monkeypatch, networks, "load_network", counts, "load")
    return counts


def count_calls(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, counts: dict[str, int], key: str
) -> None:
    real = getattr(owner, name)

    def call(*given: object, **named: object) -> object:
        counts[key] += 1
        return real(*given, **named)

    monkeypatch.setattr(owner, name, call)


def summary(folder: Path = Path("out")) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads((folder / "summary.json").read_text())
    return found


def values(method: str = "ours", folder: Path = Path("out")) -> dict[str, dict[str, float]]:
    rows = summary(folder)["results"]
    return {str(r["id"]): r["values"] for r in rows if r["method"] == method}  # type: ignore[misc]


def kept(folder: Path) -> dict[str, float]:
    """When each result and measurement was written."""
    parts = [*(folder / "results").rglob("*"), *(folder / "measured").rglob("*")]
    return {str(path): path.stat().st_mtime_ns for path in parts if path.is_file()}


COLUMNS = {
    "imagenet-r-ti2i": "structure_distance clip_text clip_direction dino_source",
    "emu-edit": "clip_direction clip_source clip_text l1_source dino_source",
    "magicbrush": "l1_reference l2_reference clip_reference dino_reference clip_text",
    "imagenet-real-edit": "lpips_source l1_source clip_text accuracy",
    "five-bench": "structure_distance psnr_unedited lpips_unedited mse_unedited ssim_unedited "
    "clip_whole clip_edited frame_consistency warp_error clip_text",
    "manifest": "structure_distance psnr_unedited lpips_unedited mse_unedited ssim_unedited "
    "clip_whole clip_edited clip_text clip_direction clip_source dino_source l1_source "
    "l1_reference l2_reference clip_reference dino_reference",
}
SHIFT = {"pixel_shift", "pixel_shift_error"}
"""Of all benchmarks."""
SOURCES = {
    "imagenet-r-ti2i": 2,
    "emu-edit": 2,
    "magicbrush": 6,
    "imagenet-real-edit": 2,
    "five-bench": 6,
    "manifest": 2,
}
"""Inversions that are needed: one for each source, and for each step of a chain."""


@pytest.mark.parametrize("name", COLUMNS)
def test_a_benchmark_runs_to_its_page_and_nothing_is_done_again(
    run: Run, counted: dict[str, int], name: str
) -> None:
    MAKE[name](Path("data"))  # type: ignore[index]
    code, out, err = run(name)
    assert code == 0, err
    assert counted["open_source"] == counted["sample"] == SOURCES[name]
    found = values()
    expected = set(COLUMNS[name].split())
    # Those that no item gives a value are told instead.
    assert set(summary()["columns"]) - SHIFT == expected
    assert expected | SHIFT <= set.intersection(*map(set, found.values()))
    page = Path("out/report.html").read_text()
    assert page.count('<section class="card"') == len(found)
    assert page.count("data:video/mp4") == (12 if name == "five-bench" else 0)
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "| ours |" in out
    # Single and multi turn are two rows of MagicBrush, and no third.
    assert ("| ours | all |" in out) == (name != "magicbrush")
    # What the page sorts by.
    sorted_by = [html.unescape(text) for text in re.findall(r'data-values="([^"]*)"', page)]
    assert [json.loads(text) for text in sorted_by] == [{"ours": each} for each in found.values()]

    before, counts = kept(Path("out")), dict(counted)
    assert run(name)[0] == 0
    assert kept(Path("out")) == before
    assert counted == counts
    assert values() == found


def test_clips_with_a_model_of_videos(places: dict[str, str], tmp_path: Path) -> None:
    """Two rows of FiVE-Bench with Wan: no frame is lost, and every column has a value."""
    made.save_five_bench(tmp_path / "data", frames=6)
    values = {
        "benchmark": "five-bench", "data": str(tmp_path / "data"), "output": str(tmp_path / "out"),
        "model": str(save_tiny_wan(tmp_path / "wan")), "method": "flowalign", "steps": 2,
        "size": (48, 32), "types": ("1", "3"), "inversion_text": "source", "device": "cpu",
        "network": tuple(f"{role}={place}" for role, place in places.items()),
    }  # fmt: skip
    done = evaluate(EvaluationSettings.of(values), quiet=True)
    assert len(done.summary.rows) == 2
    for row in done.summary.rows:
        assert all(row.values[name] is not None for name in COLUMNS["five-bench"].split())
    for clip in ("0001_thing/1_blue_bus", "0003_thing/3_blue_bus"):
        assert len(list((tmp_path / "out/results/ours" / clip).glob("*.png"))) == 6


def test_pie_bench(run: Run, counted: dict[str, int], tmp_path: Path) -> None:
    made.save_pie_bench(Path("data"))
    # Another method's results: the official strip of three pictures, one square, one missing.
    theirs = Path("theirs/annotation_images")
    for kind in "0123":
        picture = Path("data/annotation_images") / f"{kind}_some_kind/{kind}0.jpg"
        (theirs / picture.parent.name).mkdir(parents=True)
        with Image.open(picture) as source:
            strip = Image.new("RGB", (3 * 512, 512), "white")
            strip.paste(source, (2 * 512, 0))
            (strip if kind != "3" else source).save(theirs / picture.parent.name / f"{kind}0.png")
    code, _out, err = run("pie-bench", "--theirs", "theirs=theirs")
    assert code == 0, err
    # Two prompts of one picture share an inversion.
    assert counted["sample"] == 10
    ours, others = values(), values("theirs")
    assert len(ours) == 11
    assert sorted(others) == [f"{kind}00000000000" for kind in "0123"] + ["second"]
    # Their results are the sources, found behind the strip's first two pictures.
    assert others["000000000000"]["mse_unedited"] == 0
    assert others["000000000000"]["psnr_unedited"] is None
    assert others["300000000000"]["structure_distance"] == pytest.approx(0, abs=1e-9)
    # All is edited: nothing to compare with; nothing is edited: the border alone is.
    full, empty = ours["200000000000"], ours["100000000000"]
    assert full["mse_unedited"] is full["ssim_unedited"] is full["lpips_unedited"] is None
    assert full["clip_edited"] is not None
    assert empty["mse_unedited"] is not None
    means = {(m["method"], m["edit_type"]): m for m in summary()["means"]}
    assert means["ours", "all"]["items"] == 11
    assert means["ours", "all"]["without"]["mse_unedited"] == 1  # type: ignore[index]
    counted_values = [each["mse_unedited"] for each in ours.values() if each["mse_unedited"]]
    assert means["ours", "all"]["values"]["mse_unedited"] == pytest.approx(  # type: ignore[index]
        np.mean(counted_values)
    )
    assert [left["id"] for left in summary()["left_out"]] == [
        f"theirs: {kind}00000000000" for kind in "456789"
    ]
    table = Path("out/means.md").read_text()
    assert "structure x10^3 ↓ | PSNR ↑ | LPIPS x10^3 ↓ | MSE x10^4 ↓ | SSIM x10^2 ↑" in table
    assert "- ours, all: PSNR of 10, LPIPS of 10, MSE of 10, SSIM of 10, pixel shift of " in table
    with Path("out/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["mse_unedited"]) == ours[rows[0]["id"]]["mse_unedited"]
    made_with = summary()["made_with"]
    assert made_with["networks"]["structure_distance"][0].endswith("(right)")  # type: ignore[call-overload, index]
    assert made_with["versions"]["torchmetrics"]  # type: ignore[call-overload]
    assert set(made_with["fingerprints"]) == {"structure", "clip-large", "lpips-squeeze"}  # type: ignore[call-overload]

    # Another structure mode measures that alone again, and says so.
    before, counts = kept(Path("out/results").parent), dict(counted)
    assert run("pie-bench", "--structure", "official", "--types", "0")[0] == 0
    assert counted["sample"] == counts["sample"]
    again = values()["000000000000"]
    assert again["structure_distance"] != ours["000000000000"]["structure_distance"]
    assert again["clip_whole"] == ours["000000000000"]["clip_whole"]
    assert "(official)" in Path("out/report.html").read_text()
    changed = {path for path, when in kept(Path("out")).items() if when != before.get(path)}
    assert all("/measured/" in path for path in changed)


def test_sfid(run: Run) -> None:
    MAKE["imagenet-real-edit"](Path("data"))
    means = {"mean": torch.zeros(16), "a photo of a tiger cat": torch.ones(16)}
    save_file(means, "statistics.safetensors")
    code, _, err = run("imagenet-real-edit", "--statistics", "statistics.safetensors")
    assert code == 0, err
    scores = summary()["scores"]["ours"]  # type: ignore[call-overload]
    assert scores["sfid"] > 0
    assert scores["csfid"] > 0
    assert "SFID" in Path("out/report.html").read_text()


def test_missing_networks_leave_their_columns_out(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    MAKE["emu-edit"](Path("data"))
    wrong = ["--network", "clip=none", "--network", f"dino={Path.cwd() / 'data'}"]
    code, out, err = run("emu-edit", *wrong, "--limit", "1")
    assert code == 0
    # One line, which names what is left out, why, and what to do.
    (line,) = (line for line in err.splitlines() if "the network dino" in line)
    assert line.startswith("pnpvideo: not measured: DINO to source, because the network dino (")
    assert line.endswith("; give another, --network dino=FOLDER")
    assert all(set(each) == {"l1_source", *SHIFT} for each in values().values())
    missing = summary()["missing"]
    assert missing["CLIP text"] == "the network clip (all other CLIP measures) is not given"  # type: ignore[call-overload]
    assert "CLIP text" not in out
    # A hub that does not answer is told in the same way, at once.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    code, _, err = run(
        "emu-edit", "--network", "clip=none", "--network", "dino=a/b", "--limit", "1"
    )
    assert code == 0
    (line,) = (line for line in err.splitlines() if "the network dino" in line)
    assert "cannot be loaded from a/b: the hub cannot be reached" in line
    assert line.endswith("connect to the internet, or give its folder, --network dino=FOLDER")
    # When they are there, the rest is filled in.
    assert run("emu-edit", "--limit", "1")[0] == 0
    assert set(next(iter(values().values()))) == {*COLUMNS["emu-edit"].split(), *SHIFT}


def test_what_is_broken_is_left_out_with_a_count_or_refused(run: Run) -> None:
    MAKE["manifest"](Path("data"))
    Path("data/1.png").write_bytes(b"no picture")
    (Path("data") / "manifest.csv").open("a").write("third,gone.png,,a cow,,,places\n")
    code, _out, err = run("manifest")
    assert code == 0
    assert "1 entry is left out (third: the source data/gone.png is missing)" in err
    assert "second is left out: data/1.png is not an image" in err
    assert [left["id"] for left in summary()["left_out"]] == ["third", "ours: second"]
    assert list(values()) == ["first"]
    before = kept(Path("out"))
    code, _, err = run("manifest", "--strict")
    assert (code, err.count("\n")) == (2, 1)
    assert "third: the source data/gone.png is missing" in err
    assert kept(Path("out")) == before
    # Where the table is right and a picture is not.
    text = Path("data/manifest.csv").read_text().splitlines()[:-1]
    Path("data/manifest.csv").write_text("\n".join(text) + "\n")
    code, _, err = run("manifest", "--strict")
    assert code == 2
    assert "second: data/1.png is not an image" in err
    # Put right, what is missing is made, and nothing else.
    made.save_picture(Path("data/1.png"), 1)
    assert run("manifest", "--strict")[0] == 0
    assert list(values()) == ["first", "second"]
    after = kept(Path("out"))
    assert all(after[path] == when for path, when in before.items() if "second" not in path)


def test_a_result_that_is_gone_is_made_again_alone(run: Run, counted: dict[str, int]) -> None:
    MAKE["imagenet-r-ti2i"](Path("data"))
    assert run("imagenet-r-ti2i")[0] == 0
    first = next(Path("out/results").rglob("0_a_photo*.png"))
    made, count = pixels(first).astype(int), counted["sample"]
    first.unlink()
    assert run("imagenet-r-ti2i")[0] == 0
    # Made alone and not beside other prompts, it may be rounded otherwise.
    assert np.abs(pixels(first) - made).max() <= 1
    assert counted["sample"] == count + 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--guidance-scale", "3"), "out holds results with guidance_scale None, not 3.0; choose"),
        (("--seed", "4"), "out holds results with seed 0, not 4; choose another folder"),
    ],
)
def test_results_made_differently_are_not_mixed(
    run: Run, more: tuple[str, ...], message: str
) -> None:
    MAKE["manifest"](Path("data"))
    assert run("manifest", "--limit", "1")[0] == 0
    before = names(Path("out"))
    code, out, err = run("manifest", *more)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert names(Path("out")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a benchmark, such as pie-bench"),
        (("pie-bench",), "give the folder of the benchmark's data"),
        (("pie-bench", "data"), "give a folder for results, with -o"),
        (("pie", "data", "-o", "out"), "benchmark is 'pie'; give pie-bench, wild-ti2i,"),
        (("pie-bench", "gone", "-o", "out"), "gone does not exist; give the benchmark's folder"),
        (("pie-bench", "data", "-o", "out"), "data/mapping_file.json cannot be read"),
        (("manifest", "data", "-o", "data/manifest.csv"), "is a file; choose another name"),
        (("manifest", "data", "-o", "out", "--limit", "0"), "limit is 0; give a whole number"),
        (("manifest", "data", "-o", "out", "--no-ours"), "there is nothing to measure"),
        (("manifest", "data", "-o", "out", "--network", "x=y"), "network is 'x=y'; give ROLE="),
        (("manifest", "data", "-o", "out", "--theirs", "x"), "theirs is 'x'; give NAME=FOLDER"),
        (("manifest", "data", "-o", "out", "--method", "x=y"), "with --theirs NAME=FOLDER"),
        (("manifest", "data", "-o", "out", "--types", "z"), "there is no edit type 'z'"),
        (("manifest", "data", "-o", "out", "--statistics", "z"), "the statistics z cannot be"),
        (("manifest", "data", "-o", "out", "--limt", "1"), "did you mean --limit?"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    made.save_manifest(Path("data"))
    assert main(["evaluate", *arguments, "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pnpvideo: ")
    assert err.count("\n") == 1
    assert message in err


def test_too_little_memory_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def sample(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    MAKE["manifest"](Path("data"))
    monkeypatch.setattr(edit, "sample", sample)
    code, out, err = run("manifest")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "the memory of cpu is not enough" in err


def test_only_others_results(run: Run, counted: dict[str, int]) -> None:
    MAKE["manifest"](Path("data"))
    shutil.copytree("data", "theirs")
    Path("theirs/0.png").rename("theirs/first.png")
    assert run("manifest", "--no-ours", "--theirs", "theirs=theirs")[0] == 0
    assert counted["sample"] == 0
    assert values("theirs")["first"]["l1_source"] == 0
    assert [left["id"] for left in summary()["left_out"]] == ["theirs: second"]


def test_clips_and_their_frames(run: Run) -> None:
    """A clip by its file, of which few frames are made and every second one is measured."""
    made.save_five_bench(Path("data"), frames=5)
    for path in (Path("data/edit_prompt")).glob("edit[2-6]*"):
        path.unlink()
    assert run("five-bench", "--frames", "4", "--frame-stride", "2")[0] == 0
    made_frames = sorted(path.name for path in Path("out/results/ours").rglob("*.png"))
    assert len(made_frames) == 4
    one = RunFolder(Path("out")).read_measured("ours", "edit1 0001_thing 1_blue_bus")
    assert one.made_with["warp_error"] == "every 2. frame"


def test_processes_share_a_benchmark(
    tiny_model: Path, tmp_path: Path, places: dict[str, str], counted: dict[str, int]
) -> None:
    (tmp_path / "data").mkdir()
    made.save_five_bench(tmp_path / "data", frames=2)
    networks = [f"{role}={place}" for role, place in places.items()]
    data, out = str(tmp_path / "data"), str(tmp_path / "out")
    given = {"model": str(tiny_model), "steps": 2}
    flags = [f"--{name}={value}" for name, value in given.items()]
    flags += [f"--network={each}" for each in networks]
    other = start("evaluate", "five-bench", data, "-o", out, "--quiet", *flags, cwd=tmp_path)
    claims = tmp_path / "out" / "claims"
    while not (claims.is_dir() and list(claims.iterdir())) and other.exit_code is None:
        time.sleep(0.05)
    given |= {"benchmark": "five-bench", "data": data, "output": out, "network": networks}
    evaluate(EvaluationSettings.of(given), quiet=True)
    done = other.wait()
    assert done.returncode == 0, done.stderr
    # The other one began, so that here there was less to do; and all is there.
    assert counted["sample"] < 6
    assert len(values(folder=tmp_path / "out")) == 6
    assert not list((tmp_path / "out").rglob("*.part"))
