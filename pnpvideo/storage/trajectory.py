"""The source's latents at every sampling timestep: what the source branch reads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.storage.latent_file import LatentFile


class Latents(Protocol):
    """Latents (levels, frames, channels, height, width) wherever they are."""

    @property
    def shape(self) -> torch.Size: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def missing(self) -> Sequence[int]:
        """Frames that are still to be written, ascending."""

    def __getitem__(self, place: tuple[int, slice | Sequence[int] | Tensor]) -> Tensor:
        """The frames (n, c, h, w) at a level: a slice of them, or by their numbers."""

    def write(self, first: int, latents: Tensor) -> None:
        """Put in the frames from number `first` on, with all levels."""

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        """Write a safetensors file."""

    def close(self) -> None:
        """Close the file, if they are in one."""


class LatentMemory:
    """Latents in memory; empty ones are all missing."""

    def __init__(self, tensor: Tensor, *, empty: bool = False) -> None:
        self.tensor = tensor
        self.missing = list(range(tensor.shape[1])) if empty else []

    @property
    def shape(self) -> torch.Size:
        return self.tensor.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    def __getitem__(self, place: tuple[int, slice | Sequence[int] | Tensor]) -> Tensor:
        return self.tensor[place]

    def write(self, first: int, latents: Tensor) -> None:
        written = range(first, first + latents.shape[1])
        self.tensor[:, written.start : written.stop] = latents
        self.missing = [frame for frame in self.missing if frame not in written]

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        save_file({"latents": self.tensor.contiguous()}, path, metadata)

    def close(self) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """z_t of all frames.

    latents: (T + 1, frames, channels, height, width), from the noisiest (the first sampling
        timestep) to the clean latents; in memory or in a file, and read as `latents[i, part]`.
    timesteps: the T sampling timesteps, descending.
    prompt: the text under which the source was inverted or generated.
    """

    latents: Latents
    timesteps: tuple[float, ...]
    prompt: str = ""

    def __post_init__(self) -> None:
        shape = self.latents.shape
        if len(shape) != 5 or shape[0] != len(self.timesteps) + 1:
            raise InputError(
                f"a trajectory of {len(self.timesteps)} timesteps needs latents of shape "
                f"({len(self.timesteps) + 1}, frames, channels, height, width), "
                f"not {tuple(shape)}"
            )

    @property
    def noise(self) -> Tensor:
        """z_T: (frames, channels, height, width)."""
        return self.latents[0, :]

    @property
    def clean(self) -> Tensor:
        """z_0: (frames, channels, height, width)."""
        return self.latents[-1, :]

    def write(self, first: int, latents: Tensor) -> None:
        """Put in the frames from number `first` on: (T + 1, n, channels, height, width)."""
        self.latents.write(first, latents)

    def unfinished(self, batch_size: int, span: range | None = None) -> list[slice]:
        """The frames that are still to be written, consecutive ones in batches.

        span: of these alone; None: of all.
        """
        parts: list[slice] = []
        for frame in self.latents.missing:
            if span is not None and frame not in span:
                continue
            last = parts[-1] if parts else slice(0, -1)
            if last.stop == frame and frame - last.start < batch_size:
                parts[-1] = slice(last.start, frame + 1)
            else:
                parts.append(slice(frame, frame + 1))
        return parts

    def save(self, path: Path | str) -> None:
        """Write a safetensors file."""
        self.latents.save(Path(path), describe(self.timesteps, self.prompt))

    @classmethod
    def load(cls, path: Path | str) -> "Trajectory":
        """Read what `save` wrote. InputError where the file is something else."""
        latents = LatentFile.open(Path(path))
        if len(latents.kept) < latents.shape[0]:
            return cls.of_file(latents)
        in_memory = torch.stack([latents[level, :] for level in latents.kept])
        latents.close()
        return replace(cls.of_file(latents), latents=LatentMemory(in_memory))

    @classmethod
    def of_file(cls, latents: LatentFile) -> "Trajectory":
        """The trajectory in an open file."""
        timesteps = tuple(float(t) for t in latents.metadata.get("timesteps", "").split())
        prompt = latents.metadata.get("prompt", "")
        return cls(latents=latents, timesteps=timesteps, prompt=prompt)

    def close(self) -> None:
        """Close the file, if it is in one."""
        self.latents.close()


def describe(timesteps: tuple[float, ...], prompt: str) -> dict[str, str]:
    """What the header of a trajectory's file says."""
    return {"timesteps": " ".join(f"{t:.17g}" for t in timesteps), "prompt": prompt}


def empty_latents(steps: int, clean: Tensor) -> Tensor:
    """Room for a trajectory of these frames, in the same memory, the clean end filled in."""
    latents = clean.new_empty((steps + 1, *clean.shape))
    latents[-1] = clean
    return latents
