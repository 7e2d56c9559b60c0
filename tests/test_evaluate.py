"""The evaluation end to end, with a tiny random model: every method, measure and sheet."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnpvideo.clips.as_clip import as_clip
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from tools.train import (
    by_style,
    evaluate,
    evaluate_clips,
    evaluate_inversion,
    evaluate_masks,
    evaluate_named,
    evaluate_scenes,
)
from tools.train.artwork import SMALL
from tools.train.captions import full_caption
from tools.train.evaluate_clips import MODES, ModeSampler, make_source, measure_clip
from tools.train.evaluate_drawings import read_drawing, read_prompts, work
from tools.train.evaluate_scenes import FORMATS, Job, Result
from tools.train.plot_methods import plot_methods, points_of
from tools.train.scenes import STYLES, object_masks, render
from tools.train.search_injection import mark_best, variants
from tools.train.sheets import write_sheet
from tools.train.tasks import GOAL, make_example, open_world
from tools.train.translators import METHODS, Setting, Translator, side_of

DRAWINGS = Path(__file__).parents[1] / "samples" / "drawings"


def results_of(pipeline: PnPVideoPipeline, **changes: object) -> list[Result]:
    values: dict[str, object] = {
        "artwork": SMALL,
        "tasks": ("colour", "ground"),
        "index": 3,
        "held_out": False,
        "methods": METHODS,
        "steps": 2,
        "settings": (Setting(),),
    }
    return evaluate_scenes.work(pipeline, Job(**{**values, **changes}))  # type: ignore[arg-type]


def test_every_method_makes_a_picture_and_the_truth_is_right(pipeline: PnPVideoPipeline) -> None:
    size = side_of(pipeline)
    assert size == 32
    # SDEdit at strength 0.4 needs as many steps.
    results = results_of(pipeline, tasks=("colour",), steps=5)
    assert [result.method for result in results] == list(METHODS)
    for result in results:
        assert result.picture.shape == result.truth.shape == (size, size, 3)
        assert 0 <= result.picture.min() <= result.picture.max() <= 1
        row = result.row()
        assert set(FORMATS) <= set(row)
        assert row["prompt"] == full_caption(result.example.target, GOAL)
        if result.method == "truth":
            assert row["psnr"] == math.inf
            assert row["style"] == row["light"] == 1
    pictures = {result.method: result.picture for result in results}
    for i, method in enumerate(METHODS):
        for other in METHODS[:i]:
            assert not np.array_equal(pictures[method], pictures[other]), (method, other)


def test_held_out_things_are_evaluated(pipeline: PnPVideoPipeline) -> None:
    (result,) = results_of(pipeline, tasks=("cartoon",), methods=("pnp",), held_out=True)
    assert result.example.source.objects[0].name == open_world(SMALL).held_out[3]
    assert result.example.style == "cartoon"


def test_settings_change_the_result_and_are_taken_back(pipeline: PnPVideoPipeline) -> None:
    options, layers = pipeline.model_options, pipeline.layers
    settings = (
        Setting(),
        # Text says little to a random model.
        Setting(options={"guidance_scale": 60.0}),
        Setting(layers={"features": ("up_blocks.2.resnets.1",)}),
        Setting(options={"guidance_scale": 60.0}, negated=True),
    )
    results = results_of(pipeline, tasks=("colour",), methods=("pnp",), settings=settings)
    assert [result.setting for result in results] == [0, 1, 2, 3]
    for number, result in enumerate(results):
        for other in results[:number]:
            assert not np.array_equal(result.picture, other.picture)
    assert pipeline.model_options == options
    assert pipeline.layers == layers


def test_a_source_is_inverted_once(pipeline: PnPVideoPipeline) -> None:
    world = open_world(SMALL)
    scene = evaluate_scenes.make_example(world, "cartoon", 0).source
    translator = Translator(
        pipeline, render(scene, "cartoon", world.artwork, size=side_of(pipeline)), steps=None
    )
    assert translator.steps == pipeline.model_options.steps
    translator.steps = 2
    first = translator.translate(["a fox", "an owl"], seed=1)
    trajectory = translator._trajectory
    again = translator.translate(["a fox", "an owl"], seed=1)
    assert len(first) == 2
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    translator.translate(["a fox"], "ddim", seed=1)
    assert trajectory is not None
    assert translator._trajectory is trajectory


def test_methods_stand_where_their_means_are(tmp_path: Path) -> None:
    def row(method: str, kept: float, followed: float) -> dict[str, float | str]:
        names = ("style", "natural", "material", "light", "ground")
        means = dict.fromkeys(names, followed) | {"colour": math.nan}
        return {"method": method, "iou": kept - 0.1, "class": kept + 0.1, **means}

    rows = [
        row("truth", 1, 1),
        *(row("pnp", 0.7 + change, 0.8 - change) for change in (-0.1, 0.1)),
        row("ddim", 0.8, 0.3),
        row("sdedit 0.6", 0.6, 0.7),
    ]
    points = {point.name: point for point in points_of(rows)}
    assert {name: point.best for name, point in points.items()} == {
        "pnp": True,
        "ddim": True,
        "sdedit 0.6": False,
    }
    assert points["pnp"].structure == pytest.approx(0.3)
    assert points["pnp"].text == pytest.approx(0.8)
    plot_methods(rows[:3], tmp_path / "one.png")
    assert not (tmp_path / "one.png").exists()
    plot_methods(rows, tmp_path / "several.png")
    with Image.open(tmp_path / "several.png") as plot:
        assert plot.width > 500


def test_inversion_is_measured(pipeline: PnPVideoPipeline) -> None:
    job = by_style.Job(artwork=SMALL, index=0, style="cartoon", steps=4)
    row = evaluate_inversion.work(pipeline, job)
    assert row["style"] == "cartoon"
    assert math.isfinite(row["autoencoder"])
    assert math.isfinite(row["reconstruction"])


def test_masks_of_named_things_are_measured() -> None:
    # The embedded model, which knows the words; its whole picture would score the thing's share.
    pipeline = PnPVideoPipeline.from_pretrained("embedded")
    pipeline.set_progress_bar_config(disable=True)
    job = by_style.Job(artwork=SMALL, index=1, style="3D render", steps=8)
    *things, absent = evaluate_named.work(pipeline, job)
    scene = evaluate_named.make_scene(open_world(SMALL), 1)
    assert [row["name"] for row in things] == [thing.name for thing in scene.objects]
    assert [row["names"] for row in (*things, absent)] == ["2 things", "2 things", "not shown"]
    assert absent["name"] not in [row["name"] for row in things]
    shares = (object_masks(scene, open_world(SMALL).artwork) > 0.5).mean((1, 2))
    for row, share in zip(things, shares, strict=True):
        assert row["found"] == 1
        assert row["holds"] in (0, 1)
        assert share < row["iou"] < 1


def test_edits_of_a_part_are_measured(pipeline: PnPVideoPipeline) -> None:
    rows = evaluate_masks.work(pipeline, evaluate_masks.Job(artwork=SMALL, index=0, steps=2))
    assert [(row["method"], row["task"]) for row in rows[:2]] == [
        ("mask", "line drawing"), ("no mask", "line drawing"),
    ]  # fmt: skip
    assert len(rows) == 2 * len(evaluate_masks.EDITS)
    assert all((row["outside"] == math.inf) == (row["method"] == "mask") for row in rows)
    world = open_world(SMALL)
    example = make_example(world, "colour", 0)
    true = render(example.target, GOAL, world.artwork, size=64)
    mask = object_masks(example.target, world.artwork, size=64)[-1] > 0.5
    found = evaluate_masks.inside(world.judge, true * mask[..., None], mask, example)
    assert {found[name] for name in ("style", "colour", "class")} == {1}
    drawn = render(example.target, "cartoon", world.artwork, size=64)
    assert evaluate_masks.inside(world.judge, drawn, mask, example)["style"] == 0


def test_masks_that_move_are_measured(pipeline: PnPVideoPipeline) -> None:
    row = evaluate_masks.work_moving(pipeline, evaluate_masks.Job(artwork=SMALL, index=0, frames=8))
    assert 0 <= row["still"] < 1
    assert 0 <= row["iou"] <= 1
    assert row["least"] == (row["iou"] >= 0.85)


def test_clips_are_translated_in_every_mode(pipeline: PnPVideoPipeline, tmp_path: Path) -> None:
    job = evaluate_clips.Job(artwork=SMALL, index=0, frames=4, steps=2, modes=tuple(MODES))
    results = evaluate_clips.work(pipeline, job)
    assert [result.mode for result in results] == list(MODES)
    for result in results:
        assert result.frames.shape == (4, 32, 32, 3)
        assert all(name in result.row for name in evaluate_clips.FORMATS)
        assert result.row["seconds"] > 0
    by_mode = {result.mode: result for result in results}
    # Blending averages what sampling made.
    assert by_mode["default"].row["warp"] < by_mode["frame by frame"].row["warp"]
    evaluate_clips.make_sheet(results, SMALL, tmp_path / "sheet.jpg", shown=3)
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.width >= 5 * 32
        assert sheet.height >= 9 * 32


def test_modes_that_differ_in_blending_alone_are_sampled_once(pipeline: PnPVideoPipeline) -> None:
    world = open_world(SMALL)
    source = make_source(world, 1, 3, 32)
    assert source.style == evaluate_clips.STYLES[1]
    job = evaluate_clips.Job(artwork=SMALL, index=1, frames=3, steps=2, modes=())
    sampler = ModeSampler(pipeline, as_clip(source.frames), "a fox", job)
    for mode in ("shared noise", "shared noise, blended", "propagate", "propagate, blended"):
        sampler.frames(mode)
    assert len(sampler._sampled) == 2


def test_the_true_clip_has_the_floor_of_warp_error() -> None:
    world = open_world(SMALL)
    source = make_source(world, 0, 4, 64)
    row = measure_clip(source.truth, source, world)
    assert row["warp"] == row["floor"] > 0
    assert row["psnr"] == math.inf
    assert row["style"] == row["class"] == 1
    assert row["flicker"] < 1
    still = measure_clip(source.truth[[0, 0, 0, 0]], source, world)
    assert still["warp"] > 2 * row["warp"]


def test_drawings_have_prompts_in_the_words_of_captions(pipeline: PnPVideoPipeline) -> None:
    prompts = read_prompts(DRAWINGS)
    assert len(prompts) >= 6
    assert {path.name for path in DRAWINGS.glob("*.png")} == {path.name for path in prompts}
    assert all(prompt.startswith("a 3D render of a") for prompt in prompts.values())
    path, prompt = next(iter(prompts.items()))
    source, result = work(pipeline, (path, prompt, 2))
    assert source.shape == result.shape == (32, 32, 3)


def test_a_drawing_is_put_on_a_white_square(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), (255, 0, 0)).save(tmp_path / "wide.png")
    drawing = read_drawing(tmp_path / "wide.png", 20)
    assert drawing.shape == (20, 20, 3)
    np.testing.assert_allclose(drawing[0], 1)
    np.testing.assert_allclose(drawing[10], [[1, 0, 0]] * 20, atol=1e-6)


def test_a_sheet_shows_all_rows(tmp_path: Path) -> None:
    red, blue = np.zeros((2, 16, 16, 3), np.float32)
    red[..., 0], blue[..., 2] = 1, 1
    rows = [((red, blue), f"text {number}") for number in range(5)]
    write_sheet(rows, tmp_path / "new" / "sheet.png", columns=2)
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    found = (pixels == (255, 0, 0)).all(-1).sum(), (pixels == (0, 0, 255)).all(-1).sum()
    assert found == (5 * 256, 5 * 256)


def test_the_sheet_shows_scenes_and_tasks_in_turn(pipeline: PnPVideoPipeline) -> None:
    results = [
        result
        for index in range(2)
        for result in results_of(pipeline, index=index, methods=("truth",))
    ]
    shown = evaluate.mixed(results)
    assert [(r.example.index, r.example.task) for r in shown] == [
        (0, "colour"),
        (1, "ground"),
    ]
    assert evaluate.mixed(results, count=1) == shown[:1]


def test_the_search_varies_one_choice_and_marks_the_best() -> None:
    base = Setting(options={"tau_f": 1.0})
    tried = variants("options", "tau_f", (0.8, 1.0), base)
    assert tried == [Setting(options={"tau_f": 0.8})]
    rows = [{"structure": s, "attributes": a} for s, a in ((0.9, 0.5), (0.8, 0.8), (0.8, 0.5))]
    mark_best(rows)
    assert [row["pareto"] for row in rows] == [True, True, False]
    assert len(STYLES) == 4
