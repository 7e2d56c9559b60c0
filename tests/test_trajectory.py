"""A trajectory keeps its shape, and comes back from its file as it was."""

from pathlib import Path

import pytest
import torch

from pnpvideo.errors import InputError
from pnpvideo.storage.latent_file import LatentFile, LatentShape
from pnpvideo.storage.trajectory import LatentMemory, Trajectory, describe


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


@pytest.mark.parametrize("kept", [(0, 1, 2), (0, 2)])
def test_it_can_be_saved_where_it_is_read_from(kept: tuple[int, ...], tmp_path: Path) -> None:
    path, latents = tmp_path / "t.safetensors", torch.randn(3, 2, 4, 8, 8)
    with path.open("xb+") as made:
        shape = LatentShape.of(latents.shape)
        about = describe((501, 1), "a horse")
        kind = {"shape": shape, "dtype": latents.dtype, "kept": kept, "metadata": about}
        LatentFile.create(made, path, **kind).write(0, latents)
    before = path.read_bytes()
    Trajectory.of_file(LatentFile.open(path)).save(path)
    assert path.read_bytes() == before
    loaded = Trajectory.load(path)
    loaded.save(path)
    assert all(torch.equal(loaded.latents[level, :], latents[level]) for level in kept)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_where_it_can_be_saved(tmp_path: Path) -> None:
    kept = Trajectory(latents=LatentMemory(torch.randn(2, 1, 4, 8, 8)), timesteps=(1,))
    kept.save(tmp_path / "new" / "t.safetensors")
    loaded = Trajectory.load(str(tmp_path / "new" / "t.safetensors"))
    assert torch.equal(loaded.clean, kept.clean)
    (tmp_path / "file").touch()
    for place, message in {"new": "is a folder", "file/t": "is not a folder"}.items():
        with pytest.raises(InputError, match=message):
            kept.save(tmp_path / place)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "new", "t.safetensors"]


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
