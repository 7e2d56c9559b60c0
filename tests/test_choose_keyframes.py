"""Keyframes cover every scene, and depend on nothing but step, seed and source."""

from itertools import pairwise
from typing import get_args

import pytest
import torch

from pnpvideo.options.method import KeyframeStrategy
from pnpvideo.sampling.choose_keyframes import choose_keyframes, latent_change


def choose(
    scenes: tuple[range, ...], strategy: str, step: int = 0, seed: int = 0, every: int = 4
) -> tuple[int, ...]:
    change = [1.0] * (scenes[-1].stop - 1)
    return choose_keyframes(scenes, strategy, every=every, step=step, seed=seed, change=change)


@pytest.mark.parametrize("strategy", get_args(KeyframeStrategy))
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9, 30])
@pytest.mark.parametrize("every", [1, 4, 50])
def test_any_number_of_frames_is_covered(strategy: str, count: int, every: int) -> None:
    for step in range(5):
        keyframes = choose((range(count),), strategy, step, every=every)
        assert keyframes == tuple(sorted(set(keyframes)))
        assert (keyframes[0], keyframes[-1]) == (0, count - 1)
        longest = 2 * every - 1 if strategy == "random" else every
        assert all(b - a <= longest for a, b in pairwise(keyframes))
        assert every > 1 or keyframes == tuple(range(count))


@pytest.mark.parametrize("strategy", get_args(KeyframeStrategy))
def test_first_and_last_frame_of_every_scene_are_keyframes(strategy: str) -> None:
    scenes = (range(7), range(7, 8), range(8, 30))
    assert {0, 6, 7, 8, 29} <= set(choose(scenes, strategy, step=3))


def test_uniform_and_content_stay_and_the_others_move() -> None:
    scenes = (range(40),)
    for strategy, moves in (("uniform", 0), ("content", 0), ("sliding", 1), ("random", 1)):
        assert (choose(scenes, strategy, 1) != choose(scenes, strategy, 2)) == moves
    assert choose(scenes, "sliding", 1) == (0, 1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 39)
    assert choose(scenes, "sliding", 2) == choose(scenes, "sliding", 6)


def test_a_draw_depends_on_step_and_seed_alone() -> None:
    scenes = (range(40),)
    again = [choose(scenes, "random", step, seed=5) for step in range(6)]
    assert [choose(scenes, "random", step, seed=5) for step in reversed(range(6))] == again[::-1]
    assert len(set(again)) == 6
    assert choose(scenes, "random", 0, seed=6) != again[0]
    # The same on every machine.
    assert choose((range(12),), "random", 3, seed=5) == (0, 1, 4, 8, 11)


def test_content_puts_keyframes_where_the_source_changes() -> None:
    change = [0.0] * 10 + [1.0] * 4 + [0.0] * 10
    keyframes = choose_keyframes((range(25),), "content", every=6, step=0, seed=0, change=change)
    assert keyframes == (0, 11, 12, 13, 14, 24)
    still = choose_keyframes((range(9),), "content", every=4, step=0, seed=0, change=[0.0] * 8)
    assert still == (0, 4, 8)


def test_change_is_the_mean_difference_of_latents() -> None:
    latents = torch.tensor([0.0, 1.0, -1.0]).view(3, 1, 1, 1).expand(3, 4, 2, 2)
    assert latent_change(latents) == [1.0, 2.0]
    assert latent_change(latents[:1]) == []
