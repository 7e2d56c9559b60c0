"""The source's latents at every sampling level: what the source branch reads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from pnpvideo.errors import InputError, RunError
from pnpvideo.files.atomic_output import atomic_output
from pnpvideo.storage.latent_file import LatentFile, LatentShape, without

Held = tuple[tuple[int, ...], ...]
"""Of each scene, how many frames each of its pieces holds."""


class Latents(Protocol):
    """Latents (levels, pieces, channels, height, width), in memory or in a file."""

    @property
    def shape(self) -> torch.Size: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def missing(self) -> Sequence[int]:
        """Pieces that are still to be written, ascending."""

    def __getitem__(self, place: tuple[int, slice | Sequence[int] | Tensor]) -> Tensor:
        """Read pieces at a level, (n, c, h, w): a slice of them, or some by their numbers."""

    def write(self, first: int, latents: Tensor) -> None:
        """Write the pieces from number `first` on: (levels, n, c, h, w), all levels."""

    def write_level(self, level: int, first: int, latents: Tensor) -> None:
        """Write the pieces from number `first` on at one level, (n, c, h, w).

        They are missing until `finish`.
        """

    def finish(self, first: int, count: int) -> None:
        """Count pieces as written, after all their levels are."""

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        """Write a safetensors file."""

    def close(self) -> None:
        """Close the file, if they are in one."""


class LatentMemory:
    """Latents in memory. empty: all pieces are still to be written."""

    def __init__(self, tensor: Tensor, *, empty: bool = False) -> None:
        self.tensor = tensor
        self.missing = list(range(LatentShape.of(tensor.shape).pieces)) if empty else []

    @property
    def shape(self) -> torch.Size:
        return self.tensor.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    def __getitem__(self, place: tuple[int, slice | Sequence[int] | Tensor]) -> Tensor:
        return self.tensor[place]

    def write(self, first: int, latents: Tensor) -> None:
        count = LatentShape.of(latents.shape).pieces
        self.tensor[:, first : first + count] = latents
        self.finish(first, count)

    def write_level(self, level: int, first: int, latents: Tensor) -> None:
        self.tensor[level, first : first + len(latents)] = latents

    def finish(self, first: int, count: int) -> None:
        self.missing = without(self.missing, first, count)

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        save_file({"latents": self.tensor.contiguous()}, path, metadata)

    def close(self) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """The source's latents at every noise level: z_t of a whole source.

    Attributes:
        latents: (T + 1, pieces, channels, height, width), from the noisiest (the first sampling
            timestep) to the clean latents; in memory or in a file, and read as `latents[i, part]`.
            A piece is a frame, or for models of videos one latent in time.
        timesteps: The T sampling timesteps, noisiest first, in the model's own unit.
        prompt: The text under which the source was inverted or generated.
        held: For models of videos, of each scene, how many frames each of its pieces holds. Empty
            for others, and if that is not known: then all pieces are full, and of one scene.
    """

    latents: Latents
    timesteps: tuple[float, ...]
    prompt: str = ""
    held: Held = ()

    def __post_init__(self) -> None:
        shape = self.latents.shape
        if len(shape) < 5 or self.shape.levels != len(self.timesteps) + 1:
            raise InputError(
                f"a trajectory of {len(self.timesteps)} timesteps needs latents of shape "
                f"({len(self.timesteps) + 1}, frames, channels, height, width), "
                f"not {tuple(shape)}"
            )

    @property
    def shape(self) -> LatentShape:
        """The shape of the latents by axis: levels, pieces, and that of a piece."""
        return LatentShape.of(self.latents.shape)

    @property
    def piece_count(self) -> int:
        """The number of pieces of the source: frames, for models of images."""
        return self.shape.pieces

    @property
    def noise(self) -> Tensor:
        """z_T: (pieces, channels, height, width)."""
        return self.latents[0, :]

    @property
    def clean(self) -> Tensor:
        """z_0: (pieces, channels, height, width)."""
        return self.latents[-1, :]

    def write(self, first: int, latents: Tensor) -> None:
        """Write the pieces from number `first` on: (T + 1, n, channels, height, width)."""
        self.latents.write(first, latents)

    def unfinished(self, batch_size: int, span: range | None = None) -> list[slice]:
        """Return the pieces that are still to be written, as slices of at most batch_size.

        span: only those in it; None: all.
        """
        parts: list[slice] = []
        for number in self.latents.missing:
            if span is not None and number not in span:
                continue
            last = parts[-1] if parts else slice(0, -1)
            if last.stop == number and number - last.start < batch_size:
                parts[-1] = slice(last.start, number + 1)
            else:
                parts.append(slice(number, number + 1))
        return parts

    def save(self, path: Path | str) -> None:
        """Write a safetensors file, which may be the one that the latents are read from.

        Parent folders are created. InputError for a folder, or if the trajectory is closed;
        RunError if the disk is full or fails.
        """
        output = Path(path)
        try:
            with atomic_output(output, folder=False, overwrite=True) as part:
                self.latents.save(part, describe(self.timesteps, self.prompt, self.held))
        except SafetensorError as error:
            raise RunError(f"{output} cannot be written: {error}") from None

    @classmethod
    def load(cls, path: Path | str) -> "Trajectory":
        """Read what `save` wrote. InputError for any other file."""
        latents = LatentFile.open(Path(path))
        if len(latents.kept) < latents.axes.levels:
            return cls.of_file(latents)
        in_memory = torch.stack([latents[level, :] for level in latents.kept])
        latents.close()
        return replace(cls.of_file(latents), latents=LatentMemory(in_memory))

    @classmethod
    def of_file(cls, latents: LatentFile) -> "Trajectory":
        """Return the trajectory in an open file."""
        try:
            timesteps = tuple(float(t) for t in latents.metadata.get("timesteps", "").split())
            scenes = latents.metadata.get("held", "").split(";")
            held = tuple(tuple(map(int, scene.split())) for scene in scenes if scene)
            count = sum(map(len, held))
            if held and (count != latents.axes.pieces or min(map(min, held)) < 1):
                raise ValueError(f"it says that it has {count} pieces")
        except ValueError as error:
            raise InputError(f"{latents.name} is not a saved trajectory: {error}") from None
        prompt = latents.metadata.get("prompt", "")
        return cls(latents=latents, timesteps=timesteps, prompt=prompt, held=held)

    def close(self) -> None:
        """Close the file, if it is in one."""
        self.latents.close()


def describe(timesteps: tuple[float, ...], prompt: str, held: Held = ()) -> dict[str, str]:
    """Return the header of a trajectory's file."""
    header = {"timesteps": " ".join(f"{t:.17g}" for t in timesteps), "prompt": prompt}
    scenes = ";".join(" ".join(map(str, scene)) for scene in held)
    return header | {"held": scenes} if held else header


def empty_latents(steps: int, clean: Tensor) -> Tensor:
    """Return latents for a trajectory of these clean pieces, on their device; the rest is empty."""
    latents = clean.new_empty((steps + 1, *clean.shape))
    latents[-1] = clean
    return latents
