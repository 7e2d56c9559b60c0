"""The source's path without error: what the inversion missed, read off its trajectory.

The network is asked at x_i + (a_i - z_i) in place of x_i, where a_i is where the inversion asked it
on its way to z_i. For x = z it answers what it answered then, and the step from z_i leads to
z_{i+1}: the residuals of DirectEdit. They take no pass, and nothing but the trajectory.
"""

from collections.abc import Sequence

from torch import Tensor

from pnpvideo.models.noise_schedule import NoiseSchedule
from pnpvideo.options.edit_method import SolverName
from pnpvideo.sampling.velocity import straight
from pnpvideo.storage.trajectory import Trajectory


def missed(
    trajectory: Trajectory,
    schedule: NoiseSchedule,
    solver: SolverName,
    i: int,
    places: slice | Sequence[int],
) -> Tensor:
    """Return a_i - z_i of pieces by their places: (pieces, c, h, w).

    solver: "ddim" asked at z_{i+1}, "lookahead" where the step after that led on to, along a
    straight line (see `LookAhead`).
    """
    latents, levels = trajectory.latents, schedule.levels
    here, after = latents[i, places], latents[i + 1, places]
    if solver == "ddim" or i + 2 == len(levels):
        return after - here
    beyond = latents[i + 2, places]
    first, second = straight(after, levels[i + 1]), straight(beyond, levels[i + 2])
    noisy, middle, clean = (level.share for level in levels[i : i + 3])
    ahead = first + (noisy - middle) / (middle - clean) * (first - second)
    return levels[i].sum * ahead - here
