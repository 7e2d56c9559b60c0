"""The keyframes of a step: a function of the step and the seed alone.

They are therefore the same for every batch size, and in a run that was interrupted and resumed.
"""

import random
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from pnpvideo.options.method import KeyframeStrategy


def choose_keyframes(
    scenes: Sequence[range],
    strategy: KeyframeStrategy,
    *,
    every: int,
    step: int,
    seed: int,
    change: Sequence[float] = (),
) -> tuple[int, ...]:
    """Return ascending numbers of the keyframes, with the first and last frame of every scene.

    scenes: the frame numbers of each scene (see `find_scenes`).
    strategy: "uniform": every n-th; "random": one of each n frames, drawn again at each step (Geyer
        et al. 2023); "sliding": every n-th, one frame later at each step; "content": as many as
        uniform, with about the same change of the source between any two.
    every: n, at least 1. change: for "content", that of each frame to the next (`latent_change`).
    """
    chosen: set[int] = set()
    # random(), seeded with a text, gives the same numbers in every version of Python.
    draw = random.Random(f"keyframes of step {step} with seed {seed}")
    for scene in scenes:
        first, last = scene[0], scene[-1]
        chosen |= {first, last}
        if strategy == "uniform":
            chosen |= set(scene[::every])
        elif strategy == "sliding":
            chosen |= set(scene[step % every :: every])
        elif strategy == "random":
            for start in range(0, len(scene), every):
                block = scene[start : start + every]
                chosen.add(block[int(draw.random() * len(block))])
        else:
            chosen |= _by_content(scene, every, change)
    return tuple(sorted(chosen))


def latent_change(latents: Tensor) -> list[float]:
    """Return the mean absolute difference of each frame to the next; latents: (frames, c, h, w)."""
    return [float((after - before).abs().mean()) for before, after in pairwise(latents)]


def _by_content(scene: range, every: int, change: Sequence[float]) -> set[int]:
    parts = -(-(len(scene) - 1) // every)
    total = sum(change[scene[0] : scene[-1]])
    if total == 0:
        return set(scene[::every])
    chosen, sum_so_far = set(), 0.0
    for frame in scene[:-1]:
        passed = int(sum_so_far / total * parts)
        sum_so_far += change[frame]
        if int(sum_so_far / total * parts) > passed:
            chosen.add(frame + 1)
    return chosen
