"""The true clip changes little along its exact motion; flicker that is put in comes out."""

import pytest
import torch
from torch import Generator

from tools.measure_clips import (
    Motion,
    find_motion,
    frame_times,
    ground_flicker,
    warp_back,
    warp_error,
)
from tools.scenes import random_scene, render

SIZE = 64
COUNT = 6

Rendered = tuple[torch.Tensor, Motion]


@pytest.fixture
def clip() -> Rendered:
    scene = random_scene(Generator().manual_seed(4), moving=True)
    frames = torch.cat([render([scene], "cartoon", SIZE, time=t) for t in frame_times(COUNT)])
    return frames, find_motion(scene, COUNT, SIZE)


def test_warping_moves_pixels_by_the_flow() -> None:
    frames = torch.rand(1, 3, 8, 8)
    flow = torch.zeros(1, 2, 8, 8)
    flow[:, 0], flow[:, 1] = 2, -1
    warped = warp_back(frames, flow)
    for y in range(1, 8):
        for x in range(6):
            torch.testing.assert_close(warped[0, :, y, x], frames[0, :, y - 1, x + 2])


def test_the_exact_motion_explains_the_true_clip(clip: Rendered) -> None:
    frames, motion = clip
    still = find_motion(random_scene(Generator().manual_seed(4)), COUNT, SIZE)
    assert warp_error(frames, motion) < 0.4 * warp_error(frames, still)
    assert ground_flicker(frames, motion) < 0.01


@pytest.mark.parametrize("strength", [0.02, 0.1])
def test_flicker_is_measured(clip: Rendered, strength: float) -> None:
    frames, motion = clip
    # Brightness jumps up and down by twice the strength at every frame.
    signs = torch.tensor([1.0, -1.0] * (COUNT // 2)).view(-1, 1, 1, 1)
    shaken = frames + strength * signs
    assert ground_flicker(shaken, motion) == pytest.approx(2 * strength, rel=0.1)
    expected = warp_error(frames, motion) + (2 * strength) ** 2
    assert warp_error(shaken, motion) == pytest.approx(expected, rel=0.2)
