"""Velocities: the coordinate in which a step of every kind of model is an Euler step.

With a and b the signal and noise of a level, u = latents / (a + b) is (1 - s) clean + s noise, with
s = b / (a + b): the straight line of flow matching, whose velocity is v = noise - clean. A DDIM
step from s to s' is an Euler step there, u' = u + (s' - s) v, for every kind of prediction.
"""

from torch import Tensor

from pnpvideo.models.noise_schedule import Level, PredictionType
from pnpvideo.sampling.schedule import clean_and_noise


def straight(latents: Tensor, level: Level) -> Tensor:
    """Return u, from latents at a level."""
    return latents / level.sum


def velocity(latents: Tensor, output: Tensor, level: Level, kind: PredictionType) -> Tensor:
    """Return v = noise - clean, as the network's output at these latents says."""
    if kind == "flow":
        return output
    clean, noise = clean_and_noise(latents, output, level, kind)
    return noise - clean


def move(latents: Tensor, along: Tensor, start: Level, end: Level) -> Tensor:
    """Return latents at `end`, from those at `start` and a velocity: Euler's step."""
    return end.sum * (straight(latents, start) + (end.share - start.share) * along)
