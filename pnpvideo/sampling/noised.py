"""The source's latents at every noise level without an inversion: clean ones with noise added."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pnpvideo.models.noise_schedule import NoiseSchedule
from pnpvideo.storage.trajectory import LatentMemory, Latents, Trajectory


@dataclass(frozen=True, kw_only=True)
class NoisedLatents:
    """Latents (T + 1, pieces, c, h, w) that are computed when they are read.

    At each level but the last they are signal * clean + noise * eps (Ho et al. 2020, equation 4;
    Meng et al. 2022, "SDEdit", algorithm 1), with the same eps at all levels.

    clean: latents of which the last level is clean. eps: noise of variance 1, one for all pieces,
    (c, h, w), or one for each.
    """

    clean: Latents
    eps: Tensor
    schedule: NoiseSchedule

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.schedule.levels), *self.clean.shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        return self.eps.dtype

    @property
    def missing(self) -> Sequence[int]:
        return self.clean.missing

    def __getitem__(self, place: tuple[int, slice | Sequence[int] | Tensor]) -> Tensor:
        number, part = place
        clean, levels = self.clean[-1, part].to(self.eps), self.schedule.levels
        if number % len(levels) == len(levels) - 1:
            return clean
        level = levels[number]
        each = self.eps.ndim == clean.ndim
        return level.signal * clean + level.noise * (self.eps[part] if each else self.eps)

    def write(self, first: int, latents: Tensor) -> None:
        raise RuntimeError("noised latents are computed, not written")

    def write_level(self, level: int, first: int, latents: Tensor) -> None:
        self.write(first, latents)

    def finish(self, first: int, count: int) -> None:
        pass

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        levels = [self[number, :] for number in range(len(self.schedule.levels))]
        LatentMemory(torch.stack(levels)).save(path, metadata)

    def close(self) -> None:
        self.clean.close()


def noised(source: Trajectory, eps: Tensor, schedule: NoiseSchedule) -> Trajectory:
    """Return the trajectory of a source's clean latents with noise added; see `NoisedLatents`."""
    return Trajectory(
        latents=NoisedLatents(clean=source.latents, eps=eps, schedule=schedule),
        timesteps=schedule.timesteps,
        prompt=source.prompt,
    )
