"""Options tried with one another: the front, the measures against naive ones, and the command."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import save_manifest, save_networks
from command import assert_refused, pixels, save_frames
from PIL import Image
from toy_model import FRAMES, WIDTH, ToyModel, ToyNetwork

from pnpvideo.cli import main
from pnpvideo.errors import InputError
from pnpvideo.evaluation import feature_metrics
from pnpvideo.evaluation.networks import Networks
from pnpvideo.grid.draw_grid import draw_plot
from pnpvideo.grid.edits import GridEdit
from pnpvideo.grid.grid import Point, pareto_front, run_grid
from pnpvideo.grid.own_measures import OwnMeasures
from pnpvideo.inside.draw import MARK
from pnpvideo.models.noise_schedule import flow_schedule
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.models.stable_diffusion.unet import UNet
from pnpvideo.options.grid import GridCell, GridSettings, cells_of, read_axes
from pnpvideo.options.method import PnPOptions
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.stages import edit, invert

STEPS = "2"


def test_the_front_is_what_no_other_beats() -> None:
    generator = np.random.default_rng(5)
    for _ in range(20):
        points = generator.integers(0, 6, (12, 2)).astype(float)
        found = pareto_front(*points.T)
        for (cost, gain), on_front in zip(points, found, strict=True):
            better = [
                (c < cost and g >= gain) or (c <= cost and g > gain) for c, g in points.tolist()
            ]
            assert on_front == (not any(better))
    assert pareto_front([1, 1], [2, 2]) == [True, True]


def test_every_value_is_tried_with_all_others() -> None:
    axes = read_axes(["tau_f=0.4,0.8", "attention-sharing=none,extended", "guidance_scale=3"])
    assert [cell.name for cell in cells_of(axes)] == [
        "tau_f=0.4,attention_sharing=none,guidance_scale=3",
        "tau_f=0.4,attention_sharing=extended,guidance_scale=3",
        "tau_f=0.8,attention_sharing=none,guidance_scale=3",
        "tau_f=0.8,attention_sharing=extended,guidance_scale=3",
    ]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("tau_f", "grid is 'tau_f'; give OPTION=VALUE,VALUE"),
        ("tau_f=", "give OPTION=VALUE,VALUE"),
        ("tau_f=0.4,1.5", "tau_f is 1.5; give a number from 0 to 1"),
        ("tau_f=much", "tau_f is 'much'; give a number from 0 to 1"),
        ("tau_f=0.4,", "tau_f is None"),
        ("tau_f=[", "tau_f is '['; give a number from 0 to 1"),
        ("tauf=0.4", "there is no option tauf; did you mean tau_f?"),
        ("steps=10,20", "steps changes the inversion, which a grid shares"),
        ("tau_a=0,0.0", "tau_a has 0.0 twice"),
    ],
)
def test_what_cannot_be_tried_is_told(grid: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        GridSettings.of({"source": "a.png", "prompt": "a", "output": "o", "grid": grid})
    assert message in str(error.value)


def measures_of(pipeline: PnPVideoPipeline, options: PnPOptions) -> OwnMeasures:
    return OwnMeasures(
        UNet(pipeline.unet, pipeline.model.autoencoder.factor),
        pipeline.layers,
        pipeline.schedule(options),
        pipeline.encode_texts([""]),
        batch_size=2,
    )


def test_own_measures_are_those_of_a_naive_reference(pipeline: PnPVideoPipeline) -> None:
    options = PnPOptions(steps=5)
    latents, source = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    text, nothing = (pipeline.encode_texts([words]) for words in ("a red star", ""))
    alphas, unet = pipeline.scheduler.alphas_cumprod.double(), pipeline.unet
    timesteps = pipeline.schedule(options).timesteps
    block = unet.get_submodule(pipeline.layers.features[0])

    def noise_of(step: int) -> torch.Tensor:
        return torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(step))

    def predict(clean: torch.Tensor, step: int, words: Any) -> tuple[np.ndarray, np.ndarray]:
        """The network's output for one frame, and the features of the first injected layer."""
        alpha = alphas[int(timesteps[step])]
        noisy = (alpha.sqrt() * clean + (1 - alpha).sqrt() * noise_of(step)).float()
        kept: list[torch.Tensor] = []
        with torch.no_grad(), block.conv2.register_forward_hook(lambda *x: kept.append(x[2])):
            output = unet(noisy[None], timesteps[step], words.hidden).sample[0]
        return output.double().numpy(), kept[0][0].double().flatten(1).numpy()

    distances = []
    for frame in range(3):
        pair = []
        for clean in (latents[frame], source[frame]):
            places = predict(clean, 3, nothing)[1].T
            places = places / np.linalg.norm(places, axis=1, keepdims=True)
            pair.append(places @ places.T)
        distances.append(((pair[0] - pair[1]) ** 2).mean())
    gains = []
    for step in (1, 2, 2, 3):
        errors = [
            sum(
                ((predict(clean, step, words)[0] - noise_of(step).numpy()) ** 2).mean()
                for clean in latents
            )
            for words in (text, nothing)
        ]
        gains.append(1 - errors[0] / errors[1])
    measures = measures_of(pipeline, options)
    assert measures.structure(latents, source) == pytest.approx(np.mean(distances), rel=1e-4)
    assert measures.text(latents, text) == pytest.approx(np.mean(gains), abs=1e-6)
    assert measures.structure(latents, latents) == 0
    assert measures.text(latents, nothing) == 0


@pytest.mark.parametrize("steps", [2, 6])
@torch.no_grad()
def test_own_measure_of_the_text_for_a_flow(steps: int) -> None:
    """By the velocities' errors, whose fractions are those of noise and of clean latents, also at
    the first level, where there is nothing but noise.
    """
    net, layers = ToyModel().net.float(), ToyModel.layers
    sigmas = [1 - step / steps for step in range(steps + 1)]
    clean = torch.randn(2, 3 * FRAMES, 6, 8)
    text, nothing = (PromptEmbeddings(hidden=torch.randn(1, 3, WIDTH)) for _ in range(2))
    gains = []
    for step in (round(share * (steps - 1)) for share in (0.2, 0.4, 0.6, 0.8)):
        noise = torch.randn(clean.shape[1:], generator=torch.Generator().manual_seed(step))
        noisy, errors = (1 - sigmas[step]) * clean + sigmas[step] * noise, []
        for words in (text, nothing):
            found = net(noisy, 1000 * sigmas[step], words.hidden.mean(1))
            errors.append(float((found - (noise - clean)).square().mean()))
        gains.append(1 - errors[0] / errors[1])
    measures = OwnMeasures(
        ToyNetwork(net),
        layers,
        flow_schedule(sigmas),
        nothing,
        batch_size=2,  # type: ignore[arg-type]
    )
    assert measures.text(clean, text) == pytest.approx(np.mean(gains), rel=1e-3)


def test_the_plot_marks_the_front() -> None:
    def point(structure: float, text: float, *, best: bool) -> Point:
        cell = GridCell(options={"tau_f": structure})
        return Point(cell=cell, structure=structure, text=text, best=best)

    drawn = draw_plot([point(0.1, 0.1, best=True), point(0.2, 0.2, best=True)], "kept", "followed")
    rows, columns = np.nonzero((drawn == MARK).all(-1))
    # The one that keeps more structure stands to the right, and below the one that follows more.
    assert rows[columns.argmax()] > rows[columns.argmin()]
    plain = draw_plot([point(0.1, 0.1, best=False)], "kept", "followed")
    assert not (plain == MARK).all(-1).any()


def counted(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, *, most: int = 100
) -> list[int]:
    """A list that grows with every call of a function; more than `most` calls are interrupted."""
    calls: list[int] = []
    real = getattr(module, name)

    def call(*given: Any, **named: Any) -> Any:
        if len(calls) == most:
            raise KeyboardInterrupt
        calls.append(1)
        return real(*given, **named)

    monkeypatch.setattr(module, name, call)
    return calls


def test_a_grid_has_one_inversion_and_each_cell_is_a_translation(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inversions = counted(monkeypatch, invert, "invert_into")
    monkeypatch.chdir(tmp_path)
    save_frames(tmp_path, 1)
    pipeline = PnPVideoPipeline.from_pretrained(tiny_model, dtype=torch.float32)
    values = {
        "source": "source0.png",
        "prompt": ("a stone", "a star"),
        "steps": 2,
        "grid": ("tau_f=0,1", "tau_a=0.5"),
        "side": 32,
        "output": "grid",
    }
    found = run_grid(GridSettings.of(values), pipeline, quiet=True)
    assert len(inversions) == 1
    assert [point.cell.name for point in found.points] == ["tau_f=0,tau_a=0.5", "tau_f=1,tau_a=0.5"]
    assert any(point.best for point in found.points)
    assert sorted(path.name for path in found.sheets) == [
        "sheet-source0-1.png",
        "sheet-source0-2.png",
    ]
    with found.tables[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["tau_f"] for row in rows] == ["0", "0", "1", "1"]
    assert float(rows[2]["structure"]) >= 0
    for path in (*found.sheets, found.plot, *(Path(row["result"]) for row in rows)):
        with Image.open(path) as image:
            image.verify()
    # The same as by itself.
    given = ["translate", "source0.png", "--prompt", "a stone", "--prompt", "a star"]
    given += ["--steps", STEPS, "--tau-f", "1", "--tau-a", "0.5", "--model", str(tiny_model)]
    assert main([*given, "-o", "one.png", "--quiet"]) == 0
    expected = pixels(tmp_path / "one-2.png")
    np.testing.assert_array_equal(pixels(Path(rows[3]["result"])), expected)


def test_the_command_tries_a_clip_and_refuses_what_is_there(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    save_frames(tmp_path / "clip", 2)
    given = ["grid", "clip", "--prompt", "a stone", "--steps", STEPS, "--quiet"]
    given += ["--model", str(tiny_model), "--grid", "tau_f=0,1", "--side", "32", "-o", "out"]
    assert main(given) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("tau_f=0: structure ")
    assert out[2:] == ["out/sheet.png", "out/plot.png", "out/grid.csv", "out/grid.json"]
    assert len(list((tmp_path / "out" / "tau_f=1" / "clip").iterdir())) == 2
    others = [*given, "--seed", "7"]
    message = "out holds results with seed 0, not 7; choose another folder"
    assert_refused((main(others), *capsys.readouterr()), 2, message)
    for name in ("grid.csv", "grid.json"):  # As a run that was broken off leaves it.
        (tmp_path / "out" / name).unlink()
    assert main([*others, "--overwrite"]) == 0
    # Results of a source that has changed since are not taken for its own.
    capsys.readouterr()
    shutil.rmtree(tmp_path / "clip")
    save_frames(tmp_path / "clip", 1)
    message = "out holds results with a source of state"
    assert_refused((main(others), *capsys.readouterr()), 2, message)
    assert main([*others, "--overwrite"]) == 0
    with (tmp_path / "out" / "grid.csv").open(newline="") as file:
        assert [row["result"] for row in csv.DictReader(file)] == [
            "out/tau_f=0/clip.png", "out/tau_f=1/clip.png"
        ]  # fmt: skip
    assert not (tmp_path / "out" / "tau_f=1" / "clip").exists()
    capsys.readouterr()
    given[-1] = "clip"
    result = (main(given), *capsys.readouterr())
    assert_refused(
        result, 2, "clip exists and is not empty; choose another folder or give --overwrite"
    )
    result = (main([*given, "--overwrite"]), *capsys.readouterr())
    assert_refused(result, 2, "which is not part of a grid, so it is not replaced")


def test_a_stopped_grid_goes_on(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inversions = counted(monkeypatch, invert, "invert_into")
    cells = counted(monkeypatch, edit, "sample", most=3)
    monkeypatch.chdir(tmp_path)
    sources = save_frames(tmp_path, 2)
    edits = [
        GridEdit(name=f"edit {number}", source=str(path), prompts=("a stone", "a star"))
        for number, path in enumerate(sources)
    ]
    pipeline = PnPVideoPipeline.from_pretrained(tiny_model, dtype=torch.float32)
    values = {"source": ".", "benchmark": "manifest", "steps": 2, "grid": ("tau_f=0,1",)}
    values |= {"side": 32}

    def tried(output: str, *, grid: str = "tau_f=0,1") -> list[dict[str, str]]:
        settings = GridSettings.of(values | {"output": output, "grid": (grid,)})
        found = run_grid(settings, pipeline, edits=edits, quiet=True)
        with found.tables[0].open(newline="") as file:
            return list(csv.DictReader(file))

    with pytest.raises(KeyboardInterrupt):
        tried("stopped")
    # The other cell of the second edit alone is made.
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    inversions = counted(monkeypatch, invert, "invert_into")
    cells = counted(monkeypatch, edit, "sample")
    found = tried("stopped")
    assert (len(cells), len(inversions)) == (1, 1)
    at_once = tried("at_once")
    for one, other in zip(found, at_once, strict=True):
        assert one["structure"] == other["structure"]
        assert one["text"] == other["text"]
        assert (pixels(Path(one["result"])) == pixels(Path(other["result"]))).all()
    for name in ("sheet-edit 0-1.png", "sheet-edit 1-2.png", "plot.png"):
        assert Path("stopped", name).read_bytes() == Path("at_once", name).read_bytes()
    # Once more, nothing; another value, that alone, once for each edit.
    cells.clear()
    inversions.clear()
    assert tried("stopped") == found
    assert (len(cells), len(inversions)) == (0, 0)
    assert len(tried("stopped", grid="tau_f=0,0.5,1")) == 12
    assert (len(cells), len(inversions)) == (2, 2)
    # Results of another precision are not mixed with these.
    values["trajectory_precision"] = "full"
    with pytest.raises(InputError, match="results with trajectory_precision 'half', not 'full'"):
        tried("stopped")
    # How fast a result is made does not count.
    values |= {"trajectory_precision": "half", "batch_size": 1, "device": "cpu", "side": 40}
    cells.clear()
    inversions.clear()
    assert len(tried("stopped", grid="tau_f=0,0.5,1")) == 12
    assert (len(cells), len(inversions)) == (0, 0)
    # A result that was lost, or is of another prompt now, is made again.
    Path(found[0]["result"]).unlink()
    edits[1] = replace(edits[1], prompts=("a stone", "a moon"))
    cells.clear()
    assert tried("stopped")[-1]["prompt"] == "a moon"
    assert len(cells) == 3


def test_a_benchmark_measured_by_networks(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    networks = save_networks(tmp_path / "networks")
    manifest = save_manifest(tmp_path / "data")
    given = ["grid", str(manifest), "--benchmark", "manifest", "--limit", "2", "--steps", STEPS]
    given += ["--model", str(tiny_model), "--grid", "tau_f=0,1", "--side", "32", "--frames", "2"]
    for role in ("clip", "structure"):
        given += ["--network", f"{role}={networks[role]}"]
    assert main([*given, "-o", "out", "--quiet"]) == 0, capsys.readouterr()
    found = json.loads((tmp_path / "out" / "grid.json").read_text())
    assert found["text"] == f"similarity to the text by {networks['clip']}"
    assert [point["tau_f"] for point in found["points"]] == [0, 1]
    with (tmp_path / "out" / "grid.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["edit"] for row in rows}) >= 1
    # The tables' values are those of the evaluation's own measures.
    seen = Networks(networks)
    row = next(row for row in rows if row["result"].endswith(".png"))
    frames = pixels(Path(row["result"]))[None]
    text = feature_metrics.similarity(
        seen.clip_pictures("clip", frames), seen.clip_text("clip", row["prompt"])
    )
    assert float(row["text"]) == pytest.approx(float(text), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--network", "dino=x", "--prompt", "a"), "a grid does not use the network dino"),
        (("--network", "clip", "--prompt", "a"), "network is 'clip'; give ROLE=FOLDER"),
        (("--network", "clip=none/x/y", "--prompt", "a"), "cannot be loaded from none/x/y"),
        (("--network", "clip=/no/x", "--prompt", "a"), "from /no/x: there is no such folder; give"),
        (("--network", "clip=./x", "--prompt", "a"), "from ./x: there is no such folder; give"),
        (("--limit", "2", "--prompt", "a"), "limit and types choose from a benchmark"),
        (("--benchmark", "pie-bench", "--prompt", "a"), "prompts and sources of its own"),
        (("--benchmark", "pie-bench"), "mapping_file.json"),
        ((), "give a prompt"),
    ],
)
def test_what_a_grid_cannot_use_is_told(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_frames(tmp_path / "data", 1)
    given = ["grid", "data", "--model", str(tiny_model), "-o", "out", "--quiet", *arguments]
    assert_refused((main(given), *capsys.readouterr()), 2, message)
    assert not (tmp_path / "out").exists()
