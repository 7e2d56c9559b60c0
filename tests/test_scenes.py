"""The procedural world is deterministic, the same layout in every style, and its truths hold."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Generator
from torch.nn import functional

from tools.captions import COLOUR_NAMES, GROUND_NAMES, LIGHT_NAMES, SHAPE_NAMES, caption
from tools.scenes import (
    COLOURS,
    STYLES,
    Scene,
    object_masks,
    optical_flow,
    random_scene,
    render,
)

SIZE = 64


def draw_scenes(count: int, *, moving: bool = False) -> list[Scene]:
    generator = Generator().manual_seed(3)
    return [random_scene(generator, moving=moving) for _ in range(count)]


@pytest.mark.parametrize("style", STYLES)
def test_a_seed_draws_the_same_pictures(style: str) -> None:
    first = render(draw_scenes(3), style, SIZE)
    second = render(draw_scenes(3), style, SIZE)
    assert first.shape == (3, 3, SIZE, SIZE)
    assert torch.equal(first, second)
    assert first.min() >= 0
    assert first.max() <= 1


@pytest.mark.parametrize("style", STYLES)
def test_a_batch_draws_what_single_calls_draw(style: str) -> None:
    scenes = draw_scenes(3)
    single = torch.cat([render([scene], style, SIZE) for scene in scenes])
    torch.testing.assert_close(render(scenes, style, SIZE), single, atol=1e-4, rtol=0)


def test_an_unknown_style_is_named() -> None:
    with pytest.raises(ValueError, match="fresco"):
        render(draw_scenes(1), "fresco", SIZE)


@pytest.mark.parametrize("style", ["cartoon", "photo"])
def test_a_new_colour_stays_inside_the_silhouette(style: str) -> None:
    for scene in draw_scenes(4):
        *others, front = scene.objects
        other = "green" if front.colour != "green" else "red"
        changed = dataclasses.replace(
            scene, objects=(*others, dataclasses.replace(front, colour=other))
        )
        pair = render([scene, changed], style, SIZE)
        difference = (pair[0] - pair[1]).abs().amax(0)
        mask = object_masks(scene, SIZE)[-1]
        assert difference[mask == 0].max() < 1e-4
        assert difference[mask == 1].mean() > 0.05


@pytest.mark.parametrize("style", ["sketch", "rough drawing"])
def test_lines_follow_the_silhouette(style: str) -> None:
    scenes = [dataclasses.replace(scene, marks=False) for scene in draw_scenes(4)]
    for scene, picture in zip(scenes, render(scenes, style, SIZE), strict=True):
        inside = object_masks(scene, SIZE).sum(0)[None, None]
        near = functional.max_pool2d(inside, 7, 1, 3)[0, 0] > 0.5
        ink = picture.mean(0) < 0.7
        assert ink.any()
        assert not (ink & ~near).any()


def test_masks_share_each_pixel_among_the_objects() -> None:
    for scene in draw_scenes(6):
        masks = object_masks(scene, SIZE)
        assert masks.shape == (len(scene.objects), SIZE, SIZE)
        assert masks.sum(0).max() <= 1 + 1e-5


def test_flow_leads_to_the_same_surface() -> None:
    size = 128
    for scene in draw_scenes(3, moving=True):
        flow, visible = optical_flow(scene, 0.1, 0.5, size)
        first = render([scene], "photo", size, time=0.1)[0]
        second = render([scene], "photo", size, time=0.5)
        line = (torch.arange(size) + 0.5) * (2 / size) - 1
        grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
        places = (grid + flow.movedim(0, -1) * (2 / size))[None]
        warped = functional.grid_sample(second, places, align_corners=False)[0]
        error = (warped - first).abs().mean(0)[visible].mean()
        still = (second[0] - first).abs().mean(0)[visible].mean()
        assert visible.float().mean() > 0.6
        # What is left: shadows, and light on turned bodies.
        assert error < 0.25 * still


def test_no_motion_means_no_flow() -> None:
    flow, visible = optical_flow(draw_scenes(1)[0], 0.0, 1.0, SIZE)
    assert flow.abs().max() < 1e-3
    assert visible.all()


def names_in(text: str, table: dict[str, tuple[str, ...]]) -> set[str]:
    return {value for value, names in table.items() if any(name in text for name in names)}


@pytest.mark.parametrize("style", STYLES)
def test_captions_name_only_what_is_true(style: str) -> None:
    generator = Generator().manual_seed(5)
    colours = {colour: COLOUR_NAMES.get(colour, (colour,)) for colour in COLOURS}
    for scene in draw_scenes(60):
        text = caption(scene, style, generator)
        shapes = {thing.shape for thing in scene.objects}
        words = {shape: tuple(f" {name}" for name in names) for shape, names in SHAPE_NAMES.items()}
        assert names_in(f" {text}".replace("moonlight", ""), words) == shapes
        assert names_in(text, GROUND_NAMES) <= {scene.ground}
        assert names_in(text, LIGHT_NAMES) <= {scene.light}
        seen = {word for word, names in colours.items() if set(names) & set(text.split())}
        assert seen <= {thing.colour for thing in scene.objects}
        if style in ("sketch", "rough drawing"):
            assert not seen
