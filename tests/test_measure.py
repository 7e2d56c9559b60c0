"""Analysis by synthesis finds what was rendered, and sees what was changed."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from tools.train.artwork import SMALL
from tools.train.captions import full_caption
from tools.train.layout import NATURAL, Camera, Object, Scene
from tools.train.measure import ATTRIBUTES, Judge, kind_of, shrunk, with_object
from tools.train.scenes import (
    APPEARANCES,
    COLOURS,
    GROUNDS,
    LIGHTS,
    MATERIALS,
    PENS,
    STYLES,
    object_masks,
    random_scene,
    render,
)
from tools.train.tasks import (
    DRAWINGS,
    EDITS,
    GOAL,
    TASKS,
    World,
    make_example,
    make_moving,
    make_thing,
    open_world,
)

PAIR = Scene(
    objects=(
        Object(name="fox", x=-0.45, y=0.1, size=0.5, appearance="gold"),
        Object(name="teapot", x=0.5, y=-0.1, size=0.45, appearance="blue"),
    ),
    ground="meadow",
)


@pytest.fixture(scope="module")
def world() -> World:
    return open_world(SMALL)


@pytest.fixture(scope="module")
def judge(world: World) -> Judge:
    return world.judge


@pytest.mark.parametrize("size", [128, 256])
@pytest.mark.parametrize("style", STYLES)
def test_true_pictures_are_right_in_everything(judge: Judge, style: str, size: int) -> None:
    generator = np.random.default_rng(3)
    for _ in range(2):
        scene = random_scene(generator, judge.artwork.names())
        found = judge.measure(render(scene, style, judge.artwork, size=size), scene, style)
        assert found.ssim == pytest.approx(1)
        assert found.style == 1
        right = [value for value in found.attributes.values() if not np.isnan(value)]
        if style in PENS:
            assert right == []
            assert np.isnan(found.iou)
        else:
            assert len(right) >= 4
            assert set(right) == {1}
            assert found.iou > 0.9


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_wrong_value_is_seen_and_the_others_stay_right(judge: Judge, name: str) -> None:
    fox, teapot = PAIR.objects
    plain = with_object(PAIR, 1, replace(teapot, appearance=NATURAL))
    scene, wrong = {
        "natural": (plain, PAIR),
        "colour": (PAIR, with_object(PAIR, 1, replace(teapot, appearance="red"))),
        "material": (PAIR, with_object(PAIR, 0, replace(fox, appearance="ice"))),
        "light": (PAIR, replace(PAIR, light="night")),
        "ground": (PAIR, replace(PAIR, ground="sea")),
        "class": (PAIR, with_object(PAIR, 1, replace(teapot, name=judge.classes("teapot")[1]))),
    }[name]
    found = judge.measure(render(wrong, GOAL, judge.artwork), scene, GOAL).attributes
    shared = {"class": 0.5}
    rest = {other: value for other, value in found.items() if other != name}
    assert found[name] == shared.get(name, 0)
    assert all(value == 1 or np.isnan(value) for value in rest.values())


@pytest.mark.parametrize("style", STYLES)
def test_the_style_is_told(judge: Judge, style: str) -> None:
    scene = replace(PAIR, objects=PAIR.objects[:1])
    picture = render(scene, style, judge.artwork)
    for other in STYLES:
        assert judge.measure(picture, scene, other).style == (style == other)


def test_wrong_looks_do_not_hide_the_right_class_and_area(judge: Judge) -> None:
    objects = tuple(replace(thing, appearance="purple") for thing in PAIR.objects)
    painted = replace(PAIR, objects=objects, ground="snow")
    found = judge.measure(render(painted, GOAL, judge.artwork), PAIR, GOAL)
    assert found.attributes["class"] == 1
    assert found.attributes["ground"] == found.attributes["material"] == 0
    assert found.iou > 0.9


def test_an_unknown_colour_hardly_changes_the_area(judge: Judge) -> None:
    scene = replace(PAIR, objects=PAIR.objects[:1], ground="grey")
    picture = render(scene, GOAL, judge.artwork, size=128)
    mask = object_masks(scene, judge.artwork, size=128).sum(0)[..., None]
    turned = picture * (1 - mask) + np.roll(picture, 1, -1) * mask
    assert judge.measure(turned, scene, GOAL).iou > 0.85


@pytest.mark.parametrize("factor", [0.75, 1.0, 1.2])
def test_the_area_of_objects_is_measured(judge: Judge, factor: float) -> None:
    scene = replace(PAIR, objects=PAIR.objects[:1])
    fox = scene.objects[0]
    other = with_object(scene, 0, replace(fox, size=factor * fox.size))
    true, drawn = (object_masks(one, judge.artwork).sum(0) > 0.5 for one in (scene, other))
    expected = (true & drawn).sum() / (true | drawn).sum()
    found = judge.measure(render(other, GOAL, judge.artwork), scene, GOAL).iou
    assert found == pytest.approx(expected, abs=0.12)


def test_what_is_not_there_has_no_area(judge: Judge) -> None:
    bare = replace(PAIR, objects=())
    assert judge.measure(render(bare, GOAL, judge.artwork), PAIR, GOAL).iou < 0.05


def test_pictures_are_shrunk_by_means() -> None:
    picture = np.random.default_rng(0).random((256, 256, 3)).astype(np.float32)
    expected = picture.reshape(128, 2, 128, 2, 3).mean((1, 3))
    np.testing.assert_allclose(shrunk(picture), expected, atol=1e-6)
    np.testing.assert_allclose(shrunk(expected), expected)
    assert shrunk(cv2.resize(picture, (64, 64))).shape == (128, 128, 3)


def test_classes_are_told_from_alike_and_unlike_ones(judge: Judge) -> None:
    for name in judge.artwork.names():
        classes = judge.classes(name)
        assert classes[0] == name
        assert len(set(classes)) == 12
        assert classes == Judge(judge.artwork).classes(name)


@pytest.mark.parametrize("task", TASKS)
def test_examples_change_what_the_task_says(world: World, task: str) -> None:
    for index in range(12):
        example = make_example(world, task, index)
        assert example == make_example(world, task, index)
        assert example.prompt == full_caption(example.target, GOAL)
        assert example.style == (task if task in DRAWINGS else GOAL)
        assert {thing.name for thing in example.source.objects} <= set(world.known)
        *rest, before = example.source.objects
        *same, after = example.target.objects
        assert rest == same
        changed = {
            "class": replace(after, name=before.name) == before and after.name != before.name,
            "colour": after.appearance != before.appearance and after.appearance in COLOURS,
            "material": after.appearance != before.appearance and after.appearance in MATERIALS,
            "light": example.target.light != example.source.light,
            "ground": example.target.ground != example.source.ground,
        }
        assert {name for name in EDITS if changed[name]} == {task} & set(EDITS)


def test_another_class_has_nearly_the_same_outline(world: World) -> None:
    def common(one: str, other: str) -> float:
        a, b = world.artwork.outline(one), world.artwork.outline(other)
        return float((a & b).sum() / (a | b).sum())

    for index in range(12):
        example = make_example(world, "class", index)
        before, after = (s.objects[-1].name for s in (example.source, example.target))
        others = [name for name in world.known if name not in (before, after)]
        assert sum(common(name, before) > common(after, before) for name in others) <= 2


def test_held_out_things_come_one_by_one(world: World) -> None:
    count = len(world.held_out)
    examples = [make_thing(world, "cartoon", index) for index in range(count)]
    assert [example.source.objects[0].name for example in examples] == list(world.held_out)
    assert all(len(example.source.objects) == 1 for example in examples)
    assert all(example.source == example.target for example in examples)
    assert make_thing(world, "cartoon", count).source.objects[0].name == world.held_out[0]


def test_moving_scenes_move_and_some_cross(world: World) -> None:
    for index in range(10):
        scene = make_moving(world, index)
        assert scene == make_moving(world, index)
        assert all(thing.dx or thing.dy for thing in scene.objects)
        assert scene.camera != Camera()
        if index % 5 == 4:
            left, right = scene.objects
            assert left.x < right.x
            assert left.x + left.dx > right.x + right.dx


def test_every_appearance_counts_to_one_attribute() -> None:
    kinds = [kind_of(appearance) for appearance in APPEARANCES]
    assert kinds.count("natural") == 1
    assert kinds.count("colour") == len(COLOURS)
    assert kinds.count("material") == len(MATERIALS)
    assert len(GROUNDS) == 17
    assert len(LIGHTS) == 3
