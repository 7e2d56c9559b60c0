"""Every method through the front door, with the toy family of flow matching."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from clips import smooth_frames
from command import pixels
from PIL import Image
from torch import Tensor
from toy_model import ToyModel

from pnpvideo.clips.clip import clip_of_frames
from pnpvideo.errors import InputError
from pnpvideo.grid.grid import run_grid
from pnpvideo.options.edit_method import MethodName
from pnpvideo.options.grid import GridSettings
from pnpvideo.options.settings import Settings
from pnpvideo.pixels.mask import Area
from pnpvideo.run.run import run
from pnpvideo.sampling.schedule import first_step
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.edit import OpenEdit, edit
from pnpvideo.stages.request import Edit, seeded
from pnpvideo.storage.allocate import Storage

COUNT, SIZE = 5, (48, 32)
METHODS: tuple[MethodName, ...] = get_args(MethodName)


@pytest.fixture
def model() -> ToyModel:
    return ToyModel()


def request(model: ToyModel, area: Area | None = None, **options: object) -> Edit:
    return Edit(
        source=clip_of_frames(smooth_frames(COUNT, *SIZE)),
        prompt=["a stone", "a star"],
        area=area,
        options=model.defaults.override({"blend_radius": 0, **options}),
        generators=seeded(1),
        batch_size=2,
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_part_of_a_clip_is_edited(model: ToyModel, method: MethodName) -> None:
    mask = np.zeros((1, 32, 48, 3), np.uint8)
    mask[:, 8:24, 16:40] = 255
    area = Area(mask=clip_of_frames(mask), moves=True, feather=0)
    with edit(model, request(model, area, method=method), QUIET) as result:
        assert result.mask is not None
        assert result.source.trajectory.shape.levels == (
            1 if method in ("flowedit", "flowalign") else model.defaults.steps + 1
        )
        frames = result.all_frames(1)
        inside = np.concatenate(list(result.mask.frames.batches(COUNT))) > 0
    source = smooth_frames(COUNT, *SIZE)
    np.testing.assert_array_equal(frames[~inside], source[~inside])
    assert (frames[inside] != source[inside]).any()


@pytest.mark.parametrize("method", METHODS[1:])
def test_strength_goes_from_the_source_to_the_prompt(model: ToyModel, method: MethodName) -> None:
    far = []
    for strength in (0.0, 0.5, 1.0):
        with edit(model, request(model, method=method, strength=strength), QUIET) as result:
            clean = result.source.trajectory.clean
            far.append(float((result.latents - clean).norm()))
    assert far[0] == 0
    assert far[0] < far[1] < far[2]


@pytest.mark.parametrize(
    "own",
    [{"steps": 1}, {"steps": 1, "strength": 0.01}, {"steps": 4, "strength": 0.2}],
    ids=str,
)
@pytest.mark.parametrize("method", METHODS[1:])
def test_a_strength_above_0_takes_a_step(
    model: ToyModel, method: MethodName, own: dict[str, float]
) -> None:
    """A share of few steps, rounded down to none, would return the source without a word."""
    with edit(model, request(model, method=method, **own), QUIET) as result:
        assert first_step(result.options) < result.options.steps
        # With one step there is no path to depart from: steerflow's step is the source's own.
        if method != "steerflow":
            assert not torch.equal(result.latents[0], result.source.trajectory.clean)


@pytest.mark.parametrize(
    "own",
    [{"method": method} for method in METHODS[1:]]
    + [{"solver": "fireflow"}, {"exact_source": True, "solver": "lookahead"}],
)
def test_a_stopped_run_goes_on(model: ToyModel, tmp_path: Path, own: dict[str, str]) -> None:
    source = save_clip(tmp_path / "clip")
    values = {"source": source, "prompt": "a stone", "model": "toy", "strength": 1.0, **own}

    def settings(output: str) -> Settings:
        job = str(tmp_path / "job")
        return Settings.of(values | {"output": f"{tmp_path / output}/", "job": job})

    def stop(step: int, timestep: float, latents: Tensor) -> None:
        if step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(settings("out"), model, quiet=True, after_step=stop)
    before = model.opened.passes
    run(settings("out"), model, quiet=True)
    # What was left is sampled: three of four steps, whose last output fireflow had kept.
    assert model.opened.passes - before == 3
    whole = Settings.of(values | {"output": f"{tmp_path / 'whole'}/"})
    run(whole, model, quiet=True)
    for path in sorted((tmp_path / "whole").glob("*.png")):
        np.testing.assert_array_equal(pixels(path), pixels(tmp_path / "out" / path.name))


def save_clip(folder: Path) -> str:
    folder.mkdir()
    for number, frame in enumerate(smooth_frames(COUNT, *SIZE)):
        Image.fromarray(frame).save(folder / f"{number}.png")
    return str(folder)


def test_differences_are_read_in_full_precision(model: ToyModel) -> None:
    for own, dtype in (
        ({}, torch.float16),
        ({"exact_source": True, "solver": "lookahead"}, torch.float32),
        ({"method": "steerflow"}, torch.float32),
        ({"method": "flowedit"}, torch.float16),
    ):
        with OpenEdit(model, request(model, **own), QUIET) as opened:
            assert opened.source.trajectory.latents.dtype == dtype


def test_an_exact_source_comes_back(model: ToyModel) -> None:
    same = {"guidance_scale": 1.0, "noise_share": 0.0}
    # A model's own level gives way: features are read at each step's own then.
    own = model.defaults.override({"feature_level": 0.4, "blend_radius": 0})
    for solver in ("ddim", "lookahead"):
        options = own.override({"exact_source": True, "solver": solver, **same})
        asked = replace(request(model), options=options)
        with edit(model, replace(asked, prompt=""), QUIET) as result:
            clean = result.source.trajectory.clean
            torch.testing.assert_close(result.latents[0], clean, rtol=1e-5, atol=1e-5)


def test_a_source_that_the_model_makes_has_missed_nothing(model: ToyModel) -> None:
    own = {"guidance_scale": 1.0, "noise_share": 0.0, "tau_f": 0.0, "tau_a": 0.0}
    asked = Edit(
        guidance_prompt="a hill",
        prompt="a hill",
        options=model.defaults.override({**own, "exact_source": True}),
        generators=seeded(1),
    )
    with edit(model, asked, QUIET) as result:
        clean = result.source.trajectory.clean
        torch.testing.assert_close(result.latents[0], clean, rtol=1e-4, atol=1e-4)


def test_a_grid_of_methods_and_strengths(model: ToyModel, tmp_path: Path) -> None:
    values = {
        "source": save_clip(tmp_path / "clip"),
        "prompt": ("a stone",),
        "model": "toy",
        "method": "flowedit",
        "grid": ("method=inject,flowedit,steerflow", "strength=0.3,0.9"),
        "side": 48,
        "output": str(tmp_path / "grid"),
    }
    found = run_grid(GridSettings.of(values), model, quiet=True)
    with found.tables[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["strength"]) for row in rows] == [
        (method, strength)
        for method in ("inject", "flowedit", "steerflow")
        for strength in ("0.3", "0.9")
    ]
    shown = [
        np.stack([pixels(path) for path in sorted(Path(row["result"]).iterdir())]) for row in rows
    ]
    assert len({one.tobytes() for one in shown}) == len(rows)
    # A cell without an inversion is what an edit with its options makes.
    options = {"method": "flowedit", "strength": 0.9}
    asked = replace(
        request(model),
        prompt="a stone",
        options=model.defaults.override(options),
        generators=seeded(0),
        storage=Storage(precision="full"),  # As steerflow needs.
    )
    with edit(model, asked, QUIET) as result:
        np.testing.assert_array_equal(shown[3], result.all_frames(0))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_grid_of_few_steps_is_measured(model: ToyModel, tmp_path: Path, steps: int) -> None:
    """A level of pure noise, of which a flow says nothing, is not divided by."""
    values = {
        "source": save_clip(tmp_path / "clip"),
        "prompt": ("a stone",),
        "model": "toy",
        "steps": steps,
        "grid": ("method=inject,flowedit",),
        "side": 48,
        "output": str(tmp_path / "grid"),
    }
    found = run_grid(GridSettings.of(values), model, quiet=True)
    with found.tables[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert all(np.isfinite(float(row[name])) for row in rows for name in ("text", "structure"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"grid": ("method=inject,uniedit", "tau_f=0.2,0.4")}, "tau_f is 0.2; method uniedit inj"),
        ({"method": "uniedit"}, "tau_f is 0.2; method uniedit injects nothing; give strength"),
        ({"grid": ("solver=ddim,midpoint",)}, "solver changes the inversion, which a grid shares"),
        ({"grid": ("method=uniedit", "eta=0,0.5")}, "eta is 0.5; method uniedit does not use it"),
    ],
)
def test_what_a_grid_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        GridSettings.of({"source": "clip", "prompt": ("a",), "output": "grid"} | values)
    assert str(error.value).startswith(message)


def test_a_source_that_is_not_inverted_serves_no_method_that_needs_it(model: ToyModel) -> None:
    with (
        OpenEdit(model, request(model, method="flowedit"), QUIET) as opened,
        pytest.raises(InputError, match="method steerflow needs an inverted source"),
    ):
        opened.sample(opened.request.options.override({"method": "steerflow"}))
    with (
        OpenEdit(model, request(model, method="flowedit"), QUIET) as opened,
        pytest.raises(InputError, match="there is no inversion to sample back"),
    ):
        opened.reconstruct()
