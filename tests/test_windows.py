"""Models of videos: scenes go through the network in windows, and no frame is lost or added."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import smooth_frames
from command import pixels
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from toy_video import ToyVideo, open_toy_video

from pnpvideo.batch.run_batch import plan_batch, run_batch
from pnpvideo.clips.clip import clip_of_frames
from pnpvideo.errors import InputError, RunError
from pnpvideo.grid.grid import run_grid
from pnpvideo.grid.own_measures import OwnMeasures
from pnpvideo.inside.visualize import visualize
from pnpvideo.models.model import Window
from pnpvideo.models.network import Batch
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.options.batch import BatchOptions
from pnpvideo.options.grid import GridSettings
from pnpvideo.options.settings import Settings
from pnpvideo.options.visualize import VisualizeSettings
from pnpvideo.pixels.mask import Area
from pnpvideo.run.run import run
from pnpvideo.sampling.windows import InWindows, blend_weights, cut_into_windows
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.edit import OpenEdit, edit
from pnpvideo.stages.request import Edit, seeded
from pnpvideo.storage.allocate import Storage
from pnpvideo.storage.trajectory import Trajectory

SIZE = (48, 32)
METHODS = ("inject", "uniedit", "flowedit", "flowalign", "steerflow")


@pytest.fixture
def model() -> ToyVideo:
    return ToyVideo()


def two_scenes(first: int, second: int) -> NDArray[np.uint8]:
    """Frames with a cut: dark ones, then light ones of another picture."""
    dark = smooth_frames(first, *SIZE) // 3
    return np.concatenate([dark, 255 - smooth_frames(second, *SIZE)[:, ::-1] // 3])


def request(frames: NDArray[np.uint8], **changes: object) -> Edit:
    values = {
        "source": clip_of_frames(frames),
        "prompt": "a stone",
        "options": ToyVideo.defaults,
        "generators": seeded(1),
        "batch_size": 2,
        "storage": Storage(precision="full"),
    }
    return Edit(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "starts"),
    [(1, [0]), (4, [0]), (5, [0, 1]), (7, [0, 3]), (8, [0, 3, 4]), (20, [0, 3, 6, 9, 12, 15, 16])],
)
def test_windows_cover_all_and_their_weights_sum_to_one(count: int, starts: list[int]) -> None:
    windows = cut_into_windows(count, Window(length=4, stride=3))
    assert [window.start for window in windows] == starts
    assert {len(window) for window in windows} == {min(count, 4)}
    total = torch.zeros(count, dtype=torch.float64)
    for window, weights in zip(windows, blend_weights(windows), strict=True):
        assert (weights > 0).all()
        total[window.start : window.stop] += weights
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("count", [1, 4, 5, 11])
def test_a_prediction_that_needs_no_context_is_as_of_the_whole(count: int) -> None:
    """Each latent's own prediction, whatever window it is in: blending changes nothing."""
    torch.manual_seed(1)
    latents = torch.randn(2 * count, 3, 4, 5, dtype=torch.float64)
    batch = Batch(
        latents=latents,
        timestep=500.0,
        texts=PromptEmbeddings(hidden=torch.zeros(2, 1, 1)),
        pieces=tuple(range(10, 10 + count)),
    )

    def predict(clips: Batch) -> Tensor:
        place = torch.tensor(clips.pieces).view(1, 1, -1, 1, 1)
        return clips.latents.sin() + place

    found = InWindows(predict, Window(length=4, stride=3))(batch)
    place = torch.arange(10, 10 + count).repeat(2).view(-1, 1, 1, 1)
    torch.testing.assert_close(found, latents.sin() + place, rtol=1e-13, atol=1e-12)


def test_overlaps_are_blended_along_straight_lines() -> None:
    """Two windows that say 0 and 1: between them the prediction rises without a jump."""
    batch = Batch(
        latents=torch.zeros(6, 1, 1, 1),
        timestep=1.0,
        texts=PromptEmbeddings(hidden=torch.zeros(1, 1, 1)),
        pieces=tuple(range(6)),
    )
    predict = InWindows(
        lambda clips: torch.full_like(clips.latents, float(clips.pieces[0] > 0)),
        Window(length=4, stride=2),
    )
    found = predict(batch).flatten()
    torch.testing.assert_close(found, torch.tensor([0, 0, 1 / 3, 2 / 3, 1, 1]))


@pytest.mark.parametrize("count", [1, 2, 3, 9, 10, 24])
@pytest.mark.parametrize("method", METHODS)
def test_no_frame_is_lost_or_added(model: ToyVideo, count: int, method: str) -> None:
    options = model.defaults.override({"method": method})
    with edit(model, request(smooth_frames(count, *SIZE), options=options), QUIET) as result:
        assert result.source.piece_count == 1 + -(-(count - 1) // 2)
        assert len(result.all_frames(0)) == count


def test_scenes_are_independent(model: ToyVideo) -> None:
    """Each is encoded, sampled and decoded as if it were alone; windows stay within one."""
    frames = two_scenes(11, 6)
    options = model.defaults.override({"method": "uniedit"})
    with edit(model, request(frames, options=options), QUIET) as result:
        assert result.source.scenes == (range(11), range(11, 17))
        assert result.source.held == ((1, 2, 2, 2, 2, 2), (1, 2, 2, 1))
        both, latents = result.all_frames(0), result.latents
    seen = set(model.clips.windows)
    assert seen == {(0, 1, 2, 3), (2, 3, 4, 5), (6, 7, 8, 9)}
    with edit(model, request(frames[:11], options=options), QUIET) as alone:
        torch.testing.assert_close(alone.latents, latents[:, :6], rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(alone.all_frames(0), both[:11])


@pytest.mark.parametrize("method", ["inject", "uniedit", "flowedit", "flowalign"])
def test_the_source_comes_back_under_its_own_text(model: ToyVideo, method: str) -> None:
    changes = {"method": method, "exact_source": method in ("inject", "uniedit")}
    changes["guidance_scale"] = 1.0
    options = model.defaults.override(changes)
    made = request(smooth_frames(13, *SIZE), prompt="", options=options)
    with edit(model, made, QUIET) as result:
        clean = result.source.trajectory.clean
        torch.testing.assert_close(result.latents[0], clean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["inject", "flowalign", "flowedit", "uniedit"])
def test_rows_go_one_by_one_if_they_do_not_fit(model: ToyVideo, method: str) -> None:
    options = model.defaults.override({"method": method, "tau_a": 0.6})
    made = request(smooth_frames(11, *SIZE), prompt=["a stone", "a star"], options=options)
    found = []
    for room in (None, 1):
        model.clips.room = room
        with edit(model, replace(made, generators=seeded(1)), QUIET) as result:
            found.append(result.latents)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_methods_measure_whole_scenes(model: ToyVideo) -> None:
    """Uni-Edit, against a loop that is written out for one window of a whole clip."""
    options = model.defaults.override({"method": "uniedit", "guidance_scale": 5.0, "strength": 1.0})
    with edit(model, request(smooth_frames(7, *SIZE), options=options), QUIET) as result:
        levels = model.schedule(options, SIZE)
        x = result.source.trajectory.noise.transpose(0, 1)[None]
        source, target = (model.encode_texts([words]).hidden.mean(1) for words in ("", "a stone"))
        for i, timestep in enumerate(levels.timesteps):
            h = levels.levels[i + 1].noise - levels.levels[i].noise
            with torch.no_grad():
                of_source, of_target = (
                    model.net(x.flatten(2, 3), timestep, text).view_as(x)
                    for text in (source, target)
                )
            change = of_target - of_source
            mean = change.mean(1, keepdim=True)
            mask = (mean - mean.min()) / (mean.max() - mean.min() + 1e-7)
            along = mask * of_target + (1 - mask) * of_source + 5 * (1 + mask) * change
            x = x + h * along
        torch.testing.assert_close(result.latents[0], x[0].transpose(0, 1), rtol=1e-4, atol=1e-4)


def test_a_mask_over_time(model: ToyVideo) -> None:
    """A latent is edited if any of its frames is; outside, pixels are the source's."""
    frames = two_scenes(5, 3)
    mask = np.zeros((8, 32, 48, 3), np.uint8)
    mask[3, 8:16, 8:16] = mask[6:, 16:24, 24:32] = 255
    area = Area(mask=clip_of_frames(mask), feather=0)
    with edit(model, request(frames, area=area), QUIET) as result:
        assert result.mask is not None
        edited = result.mask.latents.flatten(1).sum(1)
        made = result.all_frames(0)
    assert result.source.held == ((1, 2, 2), (1, 2))
    assert edited.tolist() == [0, 0, 4, 0, 4]
    np.testing.assert_array_equal(made[mask == 0], frames[mask == 0])
    assert (made[mask > 0] != frames[mask > 0]).any()


def test_noise_is_not_the_same_for_all_latents(model: ToyVideo) -> None:
    options = model.defaults.override({"start_from": "noise", "tau_a": 0.0, "tau_f": 0.0})
    with OpenEdit(model, request(smooth_frames(9, *SIZE), options=options), QUIET) as opened:
        opened.invert()
        start = opened.start(seeded(1)[0]).latents
    assert len(torch.unique(start.flatten(1)[:, 0])) == 5


def test_a_trajectory_knows_its_scenes(model: ToyVideo, tmp_path: Path) -> None:
    frames = two_scenes(6, 4)
    with OpenEdit(model, request(frames, keep="all"), QUIET) as opened:
        expected = opened.sample().all_frames(0)
        opened.source.trajectory.save(tmp_path / "kept.safetensors")
    loaded = Trajectory.load(tmp_path / "kept.safetensors")
    assert loaded.held == ((1, 2, 2, 1), (1, 2, 1))
    with edit(model, request(frames, source=loaded), QUIET) as result:
        assert result.source.piece_scenes == (range(4), range(4, 7))
        np.testing.assert_array_equal(result.all_frames(0), expected)


def test_a_generated_source_is_a_picture(model: ToyVideo) -> None:
    made = request(smooth_frames(1, *SIZE), source=None, guidance_prompt="a hill")
    with edit(model, made, QUIET) as result:
        assert len(result.all_frames(0)) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise_share": 0.1}, "noise_share puts the same noise into all frames, and this is a mo"),
        ({"noise_motion": True}, "noise_motion carries noise from frame to frame"),
        ({"feature_level": 0.5}, "feature_level keeps what is read of single frames"),
        ({"attention_sharing": "extended"}, "attention_sharing lets frames share attention"),
    ],
)
def test_what_is_for_models_of_images(
    model: ToyVideo, changes: dict[str, object], message: str
) -> None:
    options = model.defaults.override(changes)
    made = request(smooth_frames(3, *SIZE), options=options)
    with pytest.raises(InputError, match=message), edit(model, made, QUIET):
        pass


def save_clip(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, frame in enumerate(two_scenes(6, 5)):
        Image.fromarray(frame).save(folder / f"{number}.png")
    return folder


def test_a_stopped_run_goes_on(model: ToyVideo, tmp_path: Path) -> None:
    values = {
        "source": str(save_clip(tmp_path / "clip")), "prompt": "a stone", "method": "flowalign",
        "steps": 4, "model": "toy",
    }  # fmt: skip

    def settings(output: str) -> Settings:
        job = str(tmp_path / "job")
        return Settings.of(values | {"output": f"{tmp_path / output}/", "job": job})

    def stop(step: int, timestep: float, latents: Tensor) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(settings("out"), model, quiet=True, after_step=stop)
    before = len(model.clips.windows)
    run(settings("out"), model, quiet=True)
    assert len(model.clips.windows) - before < before
    run(Settings.of(values | {"output": f"{tmp_path / 'whole'}/"}), model, quiet=True)
    whole = sorted((tmp_path / "whole").glob("*.png"))
    assert len(whole) == 11
    for path in whole:
        np.testing.assert_array_equal(pixels(path), pixels(tmp_path / "out" / path.name))


@pytest.mark.parametrize("method", ["inject", "flowalign"])
def test_two_workers_share_a_clip(model: ToyVideo, tmp_path: Path, method: str) -> None:
    """They take whole scenes."""
    clip, output = save_clip(tmp_path / "clips" / "clip"), tmp_path / "out"
    options = BatchOptions.of({"jobs": str(clip.parent), "output": str(output), "workers": 2})
    values = {"prompt": ["a stone"], "model": "toy", "method": method}
    plan = plan_batch(options, values, overwrite=False)
    batch = run_batch(plan, options, quiet=True, opener=open_toy_video)
    assert not batch.missing
    (job,) = batch.jobs
    alone = job.settings.model_copy(update={"output": f"{tmp_path / 'alone'}/"})
    run(alone, model, quiet=True)
    made = sorted(Path(job.outputs.output).glob("*.png"))
    assert len(made) == 11
    for path in made:
        np.testing.assert_array_equal(pixels(path), pixels(tmp_path / "alone" / path.name))


def test_a_grid_measures_a_clip(model: ToyVideo, tmp_path: Path) -> None:
    values = {
        "source": str(save_clip(tmp_path / "clip")), "prompt": ("a stone",), "model": "toy",
        "grid": ("guidance_scale=1,3",), "side": 48, "output": str(tmp_path / "grid"),
    }  # fmt: skip
    found = run_grid(GridSettings.of(values), model, quiet=True)
    with found.tables[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [len(list(Path(row["result"]).iterdir())) for row in rows] == [11, 11]


@torch.no_grad()
def test_measures_of_a_clip_are_those_of_a_naive_reference(model: ToyVideo) -> None:
    """Of 6 latents in parts of 4 and 2, each with noise of its own."""
    options = model.defaults.override({"steps": 5})
    schedule, nothing = model.schedule(options, SIZE), model.encode_texts([""])
    text, clean = model.encode_texts(["a stone"]), torch.randn(6, 6, 8, 12)
    own = OwnMeasures(
        model.clips, model.layers, schedule, nothing, batch_size=1, window=model.window
    )
    gains = []
    for step in (1, 2, 2, 3):
        level, errors = schedule.levels[step], []
        for words in (text, nothing):
            squares = []
            for part in (clean[:4], clean[4:]):
                noise = torch.randn(part.shape, generator=torch.Generator().manual_seed(step))
                noisy = (level.signal * part + level.noise * noise).transpose(0, 1)
                told, embedded = schedule.timesteps[step], words.hidden.mean(1)
                output = model.net(noisy.flatten(1, 2)[None], told, embedded)[0].view_as(noisy)
                found = (noisy + level.signal * output).transpose(0, 1)
                squares += list((found - noise).square().mean((1, 2, 3)))
            errors.append(float(sum(squares) / 6))
        gains.append(1 - errors[0] / errors[1])
    assert own.text(clean, text) == pytest.approx(np.mean(gains), rel=1e-3, abs=1e-4)
    assert own.structure(clean, clean) == 0
    assert own.structure(clean, clean.flip(-1)) > 0


def test_what_a_model_of_videos_sees_is_not_shown(model: ToyVideo, tmp_path: Path) -> None:
    values = {"source": str(save_clip(tmp_path / "clip")), "model": "toy", "size": "48x32"}
    settings = VisualizeSettings.of(values | {"output": str(tmp_path / "seen.png")})
    with pytest.raises(InputError, match="visualize shows what models of images see"):
        visualize(settings, model, quiet=True)


@pytest.mark.parametrize("count", [1, 2, 9, 12])
def test_a_result_of_one_colour_is_asked_for_or_a_failure(model: ToyVideo, count: int) -> None:
    """The latents of a plain scene are a plain result; others that decode to one are not."""
    with edit(model, request(smooth_frames(count, *SIZE)), QUIET) as result:
        plain = torch.full((sum(map(len, result.source.pieces)), 3, 32, 48), 0.5)
        asked = model.autoencoder.encode(plain)[None]
        assert len(replace(result, latents=asked).all_frames(0)) == count
        wrong = torch.full_like(result.latents, 9.0)
        with pytest.raises(RunError, match="the result is of one colour"):
            replace(result, latents=wrong).all_frames(0)
