"""A second family of models goes through everything without a line of its own there."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import smooth_frames
from command import pixels
from PIL import Image
from torch import Tensor
from toy_model import FRAMES, ToyModel, open_toy

from pnpvideo.batch.run_batch import plan_batch, run_batch
from pnpvideo.clips.clip import clip_of_frames
from pnpvideo.errors import InputError
from pnpvideo.grid.grid import run_grid
from pnpvideo.models.model import Model
from pnpvideo.options.batch import BatchOptions
from pnpvideo.options.grid import GridSettings
from pnpvideo.options.settings import Settings
from pnpvideo.pixels.mask import Area
from pnpvideo.run.run import run
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.edit import OpenEdit, edit
from pnpvideo.stages.request import Edit, seeded
from pnpvideo.storage.allocate import Storage

COUNT = 5
"""Frames: two pieces and a half."""
SIZE = (48, 32)


@pytest.fixture
def model() -> ToyModel:
    return ToyModel()


def request(**changes: object) -> Edit:
    values = {
        "source": clip_of_frames(smooth_frames(COUNT, *SIZE)),
        "prompt": "a stone",
        "options": ToyModel.defaults,
        "generators": seeded(1),
        "batch_size": 2,
        "storage": Storage(precision="full"),
    }
    return Edit(**{**values, **changes})  # type: ignore[arg-type]


def save_clip(folder: Path, count: int = COUNT, *, turned: int = 0) -> Path:
    folder.mkdir(parents=True)
    for number, frame in enumerate(smooth_frames(count, *SIZE)):
        Image.fromarray(np.roll(frame, turned, axis=1)).save(folder / f"{number}.png")
    return folder


def test_an_edit_of_pieces_of_two_frames(model: Model) -> None:
    with edit(model, request(prompt=["a stone", "a star"]), QUIET) as result:
        assert result.latents.shape == (2, 3, 3 * FRAMES, 8, 12)
        assert [len(piece) for piece in result.source.pieces] == [2, 2, 1]
        frames = [result.all_frames(index) for index in range(2)]
    assert [one.shape for one in frames] == [(COUNT, 32, 48, 3)] * 2
    assert not np.array_equal(*frames)


def test_batches_of_pieces_change_no_result(model: Model) -> None:
    found = []
    for size in (1, 2, 5):
        with edit(model, request(batch_size=size), QUIET) as result:
            found.append(result.latents)
    for one in found[1:]:
        torch.testing.assert_close(one, found[0], rtol=1e-4, atol=1e-5)


def test_the_source_comes_back(model: Model) -> None:
    """Euler's steps are undone by fixed-point iteration; all injected, the result is the source."""
    exact = {"inversion_iterations": 12, "noise_share": 0.0, "guidance_scale": 1.0}
    options = model.defaults.override({**exact, "tau_f": 1.0, "tau_a": 1.0})
    with OpenEdit(model, request(prompt="", options=options), QUIET) as opened:
        result = opened.sample()
        clean = opened.source.trajectory.clean
        torch.testing.assert_close(opened.reconstruct(), clean, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(result.latents[0], clean, rtol=1e-3, atol=1e-3)
        shown = torch.from_numpy(smooth_frames(COUNT, *SIZE)).permute(0, 3, 1, 2) / 127.5 - 1
        torch.testing.assert_close(clean, model.autoencoder.encode(shown), rtol=1e-4, atol=1e-4)


def test_sampling_is_eulers_method(model: ToyModel) -> None:
    """Without injection, against a loop that is written out for one piece at a time."""
    options = model.defaults.override({"tau_f": 0.0, "tau_a": 0.0, "noise_share": 0.0})
    with edit(model, request(options=options), QUIET) as result, torch.no_grad():
        levels = model.schedule(options, SIZE)
        for piece, noise in enumerate(result.source.trajectory.noise):
            x = noise[None]
            for timestep, start, end in zip(
                levels.timesteps, levels.levels, levels.levels[1:], strict=False
            ):
                empty, text = (
                    model.net(x, timestep, model.encode_texts([words]).hidden.mean(1))
                    for words in ("", "a stone")
                )
                x = x + (end.noise - start.noise) * (empty + 3.0 * (text - empty))
            torch.testing.assert_close(result.latents[0, piece], x[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sharing", ["none", "extended"])
def test_a_part_is_edited(model: Model, sharing: str) -> None:
    """With a mask that moves, a shared noise, and perhaps keyframes: outside it is the source."""
    mask = np.zeros((1, 32, 48, 3), np.uint8)
    mask[:, 8:24, 16:40] = 255
    shared = {"attention_sharing": sharing, "keyframe_every": 2, "noise_source": "keyframe"}
    options = model.defaults.override({**shared, "blend_radius": 0, "eta": 0.3})
    area = Area(mask=clip_of_frames(mask), moves=True, feather=0)
    with edit(model, request(options=options, area=area), QUIET) as result:
        assert result.mask is not None
        assert result.mask.latents.shape == (3, 1, 8, 12)
        frames = result.all_frames(0)
        inside = np.concatenate(list(result.mask.frames.batches(COUNT))) > 0
    source = smooth_frames(COUNT, *SIZE)
    np.testing.assert_array_equal(frames[~inside], source[~inside])
    assert (frames[inside] != source[inside]).any()


def test_a_generated_source_has_all_frames_of_a_piece(model: Model) -> None:
    made = request(source=None, guidance_prompt="a hill")
    with edit(model, made, QUIET) as result:
        assert result.source.size == model.default_size
        assert len(result.all_frames(0)) == FRAMES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"attention_sharing": "propagate", "keyframe_every": 2}}, "needs a model wi"),
        ({"options": {"noise_motion": True}}, "noise_motion carries noise from frame to frame"),
        ({"options": {"control": "canny"}}, "the toy has no ControlNet"),
        ({"size": (40, 36)}, "size is 40x36; give multiples of 8"),
        ({"area": Area(named="a star")}, "finding what a text names needs a model with cross"),
    ],
)
def test_what_this_family_cannot_do_is_one_line(
    model: Model, changes: dict[str, object], message: str
) -> None:
    if "options" in changes:
        changes = {"options": model.defaults.override(changes["options"])}  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message), edit(model, request(**changes), QUIET):
        pass


def test_a_wrong_size_is_refused_before_prompts_are_embedded(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyModel, "encode_texts", None)
    with pytest.raises(InputError, match="size is 40x36"):
        OpenEdit(model, request(size=(40, 36)), QUIET)


def test_a_stopped_run_goes_on(model: ToyModel, tmp_path: Path) -> None:
    save_clip(tmp_path / "clip")
    values = {"source": str(tmp_path / "clip"), "prompt": "a stone", "eta": 0.5, "model": "toy"}

    def settings(output: str) -> Settings:
        job = str(tmp_path / "job")
        return Settings.of(values | {"output": f"{tmp_path / output}/", "job": job})

    def stop(step: int, timestep: float, latents: Tensor) -> None:
        if step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(settings("out"), model, quiet=True, after_step=stop)
    before = model.opened.passes
    done = run(settings("out"), model, quiet=True)
    assert (done.frames, done.size) == (COUNT, SIZE)
    # What is left is sampled: two steps of two batches.
    again = model.opened.passes - before
    assert again < before
    whole = Settings.of(values | {"output": f"{tmp_path / 'whole'}/"})
    run(whole, model, quiet=True)
    for path in sorted((tmp_path / "whole").glob("*.png")):
        np.testing.assert_array_equal(pixels(path), pixels(tmp_path / "out" / path.name))


def test_a_batch_of_two_workers(model: Model, tmp_path: Path) -> None:
    for number in range(3):
        save_clip(tmp_path / "clips" / f"clip{number}", 2 * number + 3, turned=7 * number)
    output = tmp_path / "out"
    options = BatchOptions.of(
        {"jobs": str(tmp_path / "clips"), "output": str(output), "workers": 2}
    )
    plan = plan_batch(options, {"prompt": ["a stone"], "model": "toy"}, overwrite=False)
    batch = run_batch(plan, options, quiet=True, opener=open_toy)
    assert not batch.missing
    assert {record.worker for record in batch.records} <= {"0", "1"}
    for number, job in enumerate(batch.jobs):
        alone = job.settings.model_copy(update={"output": f"{tmp_path / f'alone{number}'}/"})
        run(alone, model, quiet=True)
        made = sorted(Path(job.outputs.output).glob("*.png"))
        assert len(made) == 2 * number + 3
        for path in made:
            np.testing.assert_array_equal(
                pixels(path), pixels(tmp_path / f"alone{number}" / path.name)
            )


def test_a_grid(model: Model, tmp_path: Path) -> None:
    save_clip(tmp_path / "clip")
    values = {
        "source": str(tmp_path / "clip"),
        "prompt": ("a stone", "a star"),
        "model": "toy",
        "grid": ("tau_f=0,1", "tau_a=0.5"),
        "side": 48,
        "output": str(tmp_path / "grid"),
    }
    found = run_grid(GridSettings.of(values), model, quiet=True)
    assert [point.name for point in found.points] == ["tau_f=0,tau_a=0.5", "tau_f=1,tau_a=0.5"]
    with found.tables[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert len(list(Path(rows[0]["result"]).iterdir())) == COUNT
    # A cell is what an edit with its options makes.
    options = model.defaults.override({"tau_f": 1.0, "tau_a": 0.5})
    made = request(prompt=["a stone", "a star"], options=options, generators=seeded(0))
    with edit(model, replace(made, storage=Storage()), QUIET) as result:
        frames = result.all_frames(1)
    shown = np.stack([pixels(path) for path in sorted(Path(rows[3]["result"]).iterdir())])
    np.testing.assert_array_equal(shown, frames)
