"""A file of latents gives back what was written, in any order, and is a safetensors file."""

import errno
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pnpvideo.errors import InputError, RunError
from pnpvideo.storage.latent_file import LatentFile, LatentShape, file_size

AXES = LatentShape(levels=4, pieces=5, piece=(2, 3, 2))
SHAPE = AXES.sizes


def create(path: Path, **options: Any) -> LatentFile:
    settings = {"shape": AXES, "dtype": torch.float32, "metadata": {"prompt": "ein Pferd é"}}
    return LatentFile.create(path.open("w+b"), path, **(settings | options))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_it_gives_back_what_was_written(tmp_path: Path, dtype: torch.dtype) -> None:
    latents = torch.randn(SHAPE, dtype=torch.float64)
    file = create(tmp_path / "t.safetensors", dtype=dtype)
    file.write(3, latents[:, 3:])
    assert file.missing == [0, 1, 2]
    file.write(0, latents[:, :3])
    assert file.missing == []
    assert torch.equal(file[1, [4, 0, -2]], latents[1, [4, 0, -2]].to(dtype))
    assert torch.equal(file[1, torch.tensor([2])], latents[1, 2:3].to(dtype))
    assert torch.equal(file[1, ::2], latents[1, ::2].to(dtype))
    for level in (0, 2, -1):
        assert torch.equal(file[level, :], latents[level].to(dtype))
        assert torch.equal(file[level, 1:4], latents[level, 1:4].to(dtype))
    file.close()
    whole = load_file(tmp_path / "t.safetensors")["latents"]
    assert torch.equal(whole, latents.to(dtype))
    again = LatentFile.open(tmp_path / "t.safetensors")
    assert (again.axes, again.dtype, again.metadata) == (
        AXES, dtype, {"prompt": "ein Pferd é"}
    )  # fmt: skip
    assert torch.equal(again[1, 4:], latents[1, 4:].to(dtype))
    again.close()


def test_only_some_levels_are_kept(tmp_path: Path) -> None:
    latents = torch.randn(SHAPE)
    file = create(tmp_path / "t.safetensors", kept=(0, 3))
    file.write(0, latents)
    assert file_size(AXES, torch.float32, (0, 3)) == 2 * 5 * 12 * 4
    file.close()
    again = LatentFile.open(tmp_path / "t.safetensors")
    assert torch.equal(again[-1, :], latents[-1])
    with pytest.raises(InputError, match="does not keep the latents of step 1"):
        again[1, :]
    again.close()


def test_checksums_tell_frames_apart(tmp_path: Path) -> None:
    file = create(tmp_path / "t.safetensors")
    latents = torch.randn(SHAPE)
    file.write(0, latents)
    before = file.checksum(slice(0, 2)), file.checksum(slice(2, 5))
    latents[3, 1, 0, 0, 0] += 1
    file.write(1, latents[:, 1:2])
    assert file.checksum(slice(0, 2)) != before[0]
    assert file.checksum(slice(2, 5)) == before[1]
    file.close()


def test_threads_read_what_each_asks_for(tmp_path: Path) -> None:
    file, latents = create(tmp_path / "t.safetensors"), torch.randn(SHAPE)
    file.write(0, latents)
    whole = file._file

    class Slow:
        """The same file on a slow disk, where another thread has time to move its position."""

        closed = False

        def seek(self, place: int) -> None:
            whole.seek(place)
            time.sleep(0.002)

        def readinto(self, room: memoryview) -> int:
            return whole.readinto(room)  # type: ignore[attr-defined,no-any-return]

    file._file = Slow()  # type: ignore[assignment]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda level: file[level, :], [0, 1, 2, 3] * 2))
    assert all(torch.equal(one, latents[i % 4]) for i, one in enumerate(found))
    whole.close()


def test_a_closed_file_is_named(tmp_path: Path) -> None:
    file = create(tmp_path / "t.safetensors")
    file.close()
    for act in (lambda: file[0, :], lambda: file.save(tmp_path / "copy", {})):
        with pytest.raises(InputError, match="the trajectory is closed"):
            act()
    assert not (tmp_path / "copy").exists()


def test_a_cut_off_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    file = create(path)
    with path.open("r+b") as other:
        other.truncate(path.stat().st_size - 4)
    with pytest.raises(RunError, match="cut off"):
        file[3, :]
    file.close()
    with pytest.raises(InputError, match="not a saved trajectory"):
        LatentFile.open(path)


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = create(tmp_path / "t.safetensors")

    class Full:
        closed = False

        def seek(self, place: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    whole, file._file = file._file, Full()  # type: ignore[assignment]
    with pytest.raises(RunError, match="the disk is full"):
        file.write(0, torch.zeros(SHAPE))
    whole.close()
