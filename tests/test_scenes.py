"""The world is deterministic, the same layout in every style, and its truths hold."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from pnpvideo.evaluation.clip_metrics import warp_back
from tools.metrics import iou
from tools.train.appearance import LIGHTS, PALETTES, recoloured
from tools.train.artwork import Artwork
from tools.train.layout import Camera, Object, Scene, object_to_pixels
from tools.train.motion import find_motion, frame_times
from tools.train.scenes import (
    APPEARANCES,
    GROUNDS,
    PENS,
    STYLES,
    object_masks,
    optical_flow,
    random_scene,
    render,
)

SIZE = 96
ARTWORK = Artwork()


def draw_scenes(count: int, *, moving: bool = False) -> list[Scene]:
    generator = np.random.default_rng(3)
    return [random_scene(generator, ARTWORK.names(), moving=moving) for _ in range(count)]


@pytest.mark.parametrize("style", STYLES)
def test_a_seed_draws_the_same_pictures(style: str) -> None:
    for one, other in zip(draw_scenes(3), draw_scenes(3), strict=True):
        assert one == other
        first, second = (render(scene, style, Artwork(), size=SIZE) for scene in (one, other))
        assert first.shape == (SIZE, SIZE, 3)
        assert first.dtype == np.float32
        np.testing.assert_array_equal(first, second)
        assert first.min() >= 0
        assert first.max() <= 1


def test_an_unknown_style_is_named() -> None:
    with pytest.raises(ValueError, match=r"fresco.*line drawing"):
        render(draw_scenes(1)[0], "fresco", ARTWORK, size=SIZE)


@pytest.mark.parametrize("style", ["cartoon", "3D render"])
def test_objects_are_where_their_masks_say(style: str) -> None:
    for scene in draw_scenes(6):
        scene = replace(scene, ground="blue", light="day")
        bare = render(replace(scene, objects=()), style, ARTWORK)
        green = tuple(replace(thing, appearance="green") for thing in scene.objects)
        picture = render(replace(scene, objects=green), style, ARTWORK)
        # Green things are less blue than a blue ground, which shadows darken but little.
        shown = (picture / bare)[..., 2] < 0.75
        assert iou(shown, object_masks(scene, ARTWORK).sum(0) > 0.5) > 0.8


@pytest.mark.parametrize("style", PENS)
def test_lines_are_on_the_objects_and_along_their_outlines(style: str) -> None:
    # A rough drawing's lines wobble, and break.
    side, share = (11, 0.97) if style == "line drawing" else (25, 0.6)
    near = np.ones((side, side), np.uint8)
    for scene in draw_scenes(4):
        ink = render(scene, style, ARTWORK).mean(-1) < 0.75
        inside = (object_masks(scene, ARTWORK).sum(0) > 0.5).astype(np.uint8)
        assert ink.any()
        assert not (ink & (cv2.dilate(inside, near) == 0)).any()
        edge = inside.astype(bool) & (cv2.erode(inside, np.ones((3, 3))) == 0)
        drawn = cv2.dilate(ink.astype(np.uint8), near).astype(bool)
        assert drawn[edge].mean() > share


@pytest.mark.parametrize("style", ["cartoon", "3D render"])
def test_another_appearance_changes_nothing_outside_the_object(style: str) -> None:
    for scene in draw_scenes(4):
        *others, front = scene.objects
        new = "gold" if front.appearance != "gold" else "jade"
        changed = replace(scene, objects=(*others, replace(front, appearance=new)))
        one, other = (render(s, style, ARTWORK, size=SIZE) for s in (scene, changed))
        difference = np.abs(one - other).max(-1)
        mask = object_masks(scene, ARTWORK, size=SIZE)[-1]
        # A render may reach over its cartoon by a pixel or two.
        outside = cv2.dilate(mask, np.ones((7, 7))) == 0
        assert difference[outside].max() < 1e-4
        assert difference[mask == 1].mean() > 0.02


def test_recolouring_keeps_the_shape_and_shows_the_palette() -> None:
    layer = ARTWORK.layer("teapot", "3D render")
    for name, palette in PALETTES.items():
        changed = recoloured(layer, name)
        np.testing.assert_array_equal(changed[..., 3], layer[..., 3])
        assert (changed[..., :3] <= changed[..., 3:]).all()
        full = changed[..., 3] == 255
        mean = changed[full][:, :3].mean(0) / 255
        ramp = np.array(palette.ramp)
        assert (mean > ramp.min(0) - 0.15).all()
        assert (mean < ramp.max(0) + 0.15).all()
        # Shading stays: what was bright is brighter than what was dark.
        before, after = (part[full][:, :3].mean(1) for part in (layer, changed))
        bright, dark = before > np.percentile(before, 90), before < np.percentile(before, 10)
        assert after[bright].mean() > after[dark].mean()


def test_lights_and_grounds_all_look_different() -> None:
    scene = draw_scenes(1)[0]
    for name, values in (("light", tuple(LIGHTS)), ("ground", GROUNDS)):
        for style in ("cartoon", "3D render"):
            pictures = [
                render(replace(scene, **{name: value}), style, ARTWORK, size=SIZE)  # type: ignore[arg-type]
                for value in values
            ]
            for i, one in enumerate(pictures):
                for other in pictures[:i]:
                    assert np.abs(one - other).mean() > 0.008


def test_masks_share_each_pixel_among_the_objects() -> None:
    for scene in draw_scenes(6):
        masks = object_masks(scene, ARTWORK, size=SIZE)
        assert masks.shape == (len(scene.objects), SIZE, SIZE)
        assert masks.sum(0).max() <= 1 + 1e-5


def test_flow_leads_to_the_same_surface() -> None:
    size = 128
    for scene in draw_scenes(4, moving=True):
        flow, visible = optical_flow(scene, ARTWORK, 0.1, 0.4, size=size)
        first, second = (
            render(scene, "cartoon", ARTWORK, size=size, time=time) for time in (0.1, 0.4)
        )
        warped = warp_back(second[None], flow[None])[0]
        error = np.abs(warped - first).mean(-1)[visible].mean()
        still = np.abs(second - first).mean(-1)[visible].mean()
        assert visible.mean() > 0.6
        assert error < 0.3 * still


def test_flow_follows_objects_camera_and_what_is_hidden() -> None:
    back = Object(name="pear", x=0.3, y=0.0, size=0.5, dx=0.0)
    front = Object(name="green apple", x=-0.5, y=0.0, size=0.5, dx=0.8)
    scene = Scene(objects=(back, front), ground="white", camera=Camera(dx=0.25))
    flow, visible = optical_flow(scene, ARTWORK, 0.0, 1.0, size=SIZE)
    pan = -0.25 * SIZE / 2
    places = [
        (object_to_pixels(thing, scene.camera, 0, SIZE) @ (0, 0.2, 1))[:2].round().astype(int)
        for thing in (back, front)
    ]
    (bx, by), (fx, fy) = places
    assert flow[:, by, bx] == pytest.approx((pan, 0), abs=1e-4)
    assert flow[:, fy, fx] == pytest.approx((pan + 0.8 * SIZE / 2, 0), abs=1e-4)
    assert flow[:, 2, 50] == pytest.approx((pan, 0), abs=1e-4)
    assert visible[fy, fx]
    assert visible[2, 50]
    assert not visible[by, bx]  # behind the apple by then
    assert not visible[2, 2]  # out of the view


def test_no_motion_means_no_flow() -> None:
    flow, visible = optical_flow(draw_scenes(1)[0], ARTWORK, 0.0, 1.0, size=SIZE)
    assert np.abs(flow).max() < 1e-3
    assert visible.all()


def test_the_motion_of_a_clip_keeps_away_from_objects() -> None:
    scene = draw_scenes(1, moving=True)[0]
    motion = find_motion(scene, ARTWORK, 4, SIZE)
    assert motion.flow.shape == (3, 2, SIZE, SIZE)
    assert motion.visible.shape == motion.ground.shape == (3, SIZE, SIZE)
    times = frame_times(4)
    assert times == pytest.approx([0, 1 / 3, 2 / 3, 1])
    for number, time in enumerate(times[:-1]):
        objects = object_masks(scene, ARTWORK, size=SIZE, time=time).sum(0)
        near = cv2.dilate(objects, np.ones((15, 15))) > 0.5
        assert not (motion.ground[number] & near).any()
    assert 0 < motion.ground.mean() < 1


def test_random_scenes_use_all_there_is() -> None:
    scenes = draw_scenes(1500)
    things = [thing for scene in scenes for thing in scene.objects]
    assert {thing.name for thing in things} == set(ARTWORK.names())
    assert {thing.appearance for thing in things} == set(APPEARANCES)
    assert {scene.ground for scene in scenes} == set(GROUNDS)
    assert {scene.light for scene in scenes} == set(LIGHTS)
    assert {len(scene.objects) for scene in scenes} == {1, 2, 3}
