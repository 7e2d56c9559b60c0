"""The source's latents at every sampling timestep: what the source branch reads."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pnpvideo.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """z_t of all frames.

    latents: (T + 1, frames, channels, height, width), from the noisiest (the first sampling
        timestep) to the clean latents.
    timesteps: the T sampling timesteps, descending.
    prompt: the text under which the source was inverted or generated.
    """

    latents: Tensor
    timesteps: tuple[int, ...]
    prompt: str = ""

    def __post_init__(self) -> None:
        if self.latents.ndim != 5 or len(self.latents) != len(self.timesteps) + 1:
            raise InputError(
                f"a trajectory of {len(self.timesteps)} timesteps needs latents of shape "
                f"({len(self.timesteps) + 1}, frames, channels, height, width), "
                f"not {tuple(self.latents.shape)}"
            )

    @property
    def noise(self) -> Tensor:
        """z_T: (frames, channels, height, width)."""
        return self.latents[0]

    @property
    def clean(self) -> Tensor:
        """z_0: (frames, channels, height, width)."""
        return self.latents[-1]

    def save(self, path: Path | str) -> None:
        """Write a safetensors file."""
        metadata = {"timesteps": " ".join(map(str, self.timesteps)), "prompt": self.prompt}
        save_file({"latents": self.latents.contiguous()}, path, metadata)

    @classmethod
    def load(cls, path: Path | str) -> "Trajectory":
        """Read what `save` wrote. InputError where the file is something else."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                latents = file.get_tensor("latents")
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is not a saved trajectory: {error}") from None
        timesteps = tuple(int(t) for t in metadata.get("timesteps", "").split())
        return cls(latents=latents, timesteps=timesteps, prompt=metadata.get("prompt", ""))


def empty_latents(steps: int, clean: Tensor) -> Tensor:
    """Room for a trajectory of these frames, in the computer's memory, the clean end filled in."""
    latents = torch.empty((steps + 1, *clean.shape), dtype=clean.dtype)
    latents[-1] = clean.cpu()
    return latents
