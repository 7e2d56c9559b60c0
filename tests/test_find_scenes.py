"""Cuts are found, and motion, light and noise are none."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from pnpvideo.clips.clip import Frames
from pnpvideo.pixels.scenes import find_scenes
from tools.train.artwork import Artwork
from tools.train.scenes import random_scene, render


def batches(frames: Frames, size: int = 3) -> Iterator[Frames]:
    return (frames[i : i + size] for i in range(0, len(frames), size))


def moving_scene(seed: int, style: str, count: int) -> Frames:
    artwork = Artwork()
    scene = random_scene(np.random.default_rng(seed), artwork.names(), moving=True)
    pictures = [render(scene, style, artwork, size=48, time=t / 8) for t in range(count)]
    return (255 * np.stack(pictures)).astype(np.uint8)


@pytest.mark.parametrize("style", ["line drawing", "cartoon", "3D render"])
def test_hard_cuts_between_moving_scenes_are_found(style: str) -> None:
    lengths = (6, 1, 5, 2)
    clip = np.concatenate([moving_scene(i, style, n) for i, n in enumerate(lengths)])
    edges = np.cumsum([0, *lengths]).tolist()
    scenes = find_scenes(batches(clip))
    assert scenes == tuple(range(a, b) for a, b in pairwise(edges))


def test_a_fast_pan_is_no_cut() -> None:
    wide = np.random.default_rng(0).integers(0, 256, (4, 30, 3), dtype=np.uint8)
    wide = wide.repeat(16, axis=0).repeat(16, axis=1)
    pan = np.stack([wide[:, 20 * i : 20 * i + 96] for i in range(16)])
    assert find_scenes(batches(pan)) == (range(16),)


def test_light_and_noise_are_no_cut() -> None:
    rng = np.random.default_rng(0)
    light = np.linspace(100, 160, 12)[:, None, None, None]
    frames = np.clip(light + rng.normal(0, 12, (12, 32, 32, 3)), 0, 255).astype(np.uint8)
    assert find_scenes(batches(frames)) == (range(12),)


def test_one_frame_is_one_scene() -> None:
    assert find_scenes([np.zeros((1, 8, 8, 3), dtype=np.uint8)]) == (range(1),)
    assert find_scenes([]) == ()
