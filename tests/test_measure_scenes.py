"""Analysis by synthesis finds what was rendered, and sees what was changed."""

from dataclasses import replace

import pytest
from torch import Generator

from tools.captions import full_caption
from tools.evaluate_scenes import TASKS, make_example
from tools.layout import Scene
from tools.measure_scenes import measure, object_iou, with_value
from tools.scenes import (
    STYLES,
    VALUES,
    object_masks,
    random_scene,
    render,
    visible_attributes,
)

SIZE = 64


def draw_scene(seed: int) -> Scene:
    return random_scene(Generator().manual_seed(seed))


@pytest.mark.parametrize("style", STYLES)
def test_the_true_picture_is_right_in_everything(style: str) -> None:
    scene = draw_scene(3)
    found = measure(render([scene], style, SIZE)[0], scene, style)
    assert found.ssim == pytest.approx(1)
    assert found.style == 1
    assert found.attributes == dict.fromkeys(visible_attributes(style), 1)


@pytest.mark.parametrize("name", list(VALUES))
def test_a_wrong_value_is_seen_and_the_others_stay_right(name: str) -> None:
    scene = draw_scene(5)
    place = None if name in ("light", "ground") else 0
    old = getattr(scene if place is None else scene.objects[place], name)
    new = next(value for value in reversed(VALUES[name]) if value != old)
    changed = with_value(scene, name, new, place)
    picture = render([changed], "photo", SIZE)[0]
    found = measure(picture, scene, "photo").attributes
    assert found[name] == (0 if place is None else 1 - 1 / len(scene.objects))
    assert measure(picture, changed, "photo").attributes == dict.fromkeys(VALUES, 1)


def test_wrong_looks_do_not_hide_the_right_shape() -> None:
    scene = draw_scene(5)
    black = tuple(replace(thing, colour="black") for thing in scene.objects)
    painted = replace(scene, objects=black, ground="snow")
    picture = render([painted], "photo", SIZE)[0]
    found = measure(picture, scene, "photo")
    assert found.attributes["shape"] == 1
    assert found.attributes["ground"] == found.attributes["colour"] == 0
    assert found.iou == object_iou(picture, painted) > 0.85


@pytest.mark.parametrize("factor", [0.75, 1.0, 1.2])
def test_the_area_of_objects_is_measured(factor: float) -> None:
    scene = replace(draw_scene(9), objects=draw_scene(9).objects[:1])
    thing = scene.objects[0]
    other = replace(scene, objects=(replace(thing, size=factor * thing.size),))
    true, drawn = (object_masks(one, 128).sum(0) > 0.5 for one in (scene, other))
    expected = float((true & drawn).sum() / (true | drawn).sum())
    found = object_iou(render([other], "photo", 128)[0], scene)
    # The moved shadow is taken for a part of the body here and there.
    assert found == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("task", TASKS)
def test_examples_change_what_the_task_says(task: str) -> None:
    example = make_example(task, 7)
    assert example == make_example(task, 7)
    assert example.prompt == full_caption(example.target, "photo")
    changed = {
        name
        for name in VALUES
        if name in ("light", "ground")
        and getattr(example.source, name) != getattr(example.target, name)
    } | {
        name
        for name in ("shape", "colour", "material")
        for before, after in zip(example.source.objects, example.target.objects, strict=True)
        if getattr(before, name) != getattr(after, name)
    }
    expected = {"class": {"shape"}}.get(task, {task} & set(VALUES))
    assert changed == expected
    assert example.style == (task if task in STYLES else "photo")
