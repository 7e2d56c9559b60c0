"""A trajectory keeps its shape, and comes back from its file as it was."""

from pathlib import Path

import pytest
import torch

from pnpvideo.errors import InputError
from pnpvideo.storage.trajectory import LatentMemory, Trajectory


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    latents = torch.randn(3, 2, 4, 8, 8)
    saved = Trajectory(latents=LatentMemory(latents), timesteps=(501, 1), prompt="ein Pferd é")
    saved.save(tmp_path / "t.safetensors")
    loaded = Trajectory.load(tmp_path / "t.safetensors")
    for level in range(3):
        assert torch.equal(loaded.latents[level, :], latents[level])
    assert (loaded.timesteps, loaded.prompt) == (saved.timesteps, saved.prompt)
    assert torch.equal(loaded.noise, latents[0])
    assert torch.equal(loaded.clean, latents[2])


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(InputError, match="2 timesteps needs latents"):
        Trajectory(latents=LatentMemory(torch.zeros(2, 2, 4, 8, 8)), timesteps=(501, 1))


@pytest.mark.parametrize("content", [b"", b"not safetensors at all"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="not a saved trajectory"):
        Trajectory.load(tmp_path / "t.safetensors")
    with pytest.raises(InputError, match="not a saved trajectory"):
        Trajectory.load(tmp_path / "missing.safetensors")
