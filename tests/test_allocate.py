"""Where a trajectory is kept, and that its place changes no result."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pnpvideo.errors import InputError, RunError
from pnpvideo.files.available_memory import available_memory
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.edit import OpenEdit
from pnpvideo.stages.request import Edit, seeded
from pnpvideo.storage import allocate
from pnpvideo.storage.allocate import Storage, empty_trajectory
from pnpvideo.storage.latent_file import LatentFile
from pnpvideo.storage.trajectory import LatentMemory, Trajectory

TIMESTEPS = (751, 501, 251, 1)
FRAMES = (3, 4, 8, 8)
SIZE = 5 * 3 * 4 * 8 * 8 * 4


def room(storage: Storage, dtype: torch.dtype = torch.float32, steps_read: int = 2) -> Trajectory:
    return empty_trajectory(FRAMES, TIMESTEPS, "a cat", storage, dtype, steps_read=steps_read)


def test_what_does_not_fit_in_memory_goes_to_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pnpvideo")
    storage = Storage(precision="full", folder=tmp_path)
    monkeypatch.setattr(allocate, "available_memory", lambda: 4 * SIZE)
    assert isinstance(room(storage).latents, LatentMemory)
    assert not caplog.messages
    monkeypatch.setattr(allocate, "available_memory", lambda: 4 * SIZE - 4)
    kept = room(storage)
    assert isinstance(kept.latents, LatentFile)
    # z_T, what two steps read, and z_0: three of five levels.
    assert caplog.messages == [f"the source's trajectory (3 frames) takes 10 kB in {tmp_path}"]
    assert list(tmp_path.iterdir()) == []
    latents = torch.randn(5, *FRAMES)
    kept.write(0, latents)
    assert torch.equal(kept.noise, latents[0])
    assert torch.equal(kept.latents[1, 1:], latents[1, 1:])
    assert torch.equal(kept.clean, latents[4])
    with pytest.raises(InputError, match="step 2"):
        kept.latents[2, :]
    kept.save(tmp_path / "t.safetensors")
    kept.close()
    loaded = Trajectory.load(tmp_path / "t.safetensors")
    assert (loaded.timesteps, loaded.prompt) == (TIMESTEPS, "a cat")
    assert torch.equal(loaded.latents[1, 1:], latents[1, 1:])
    loaded.close()


def test_the_precision_is_chosen() -> None:
    half, full = Storage(place="memory"), Storage(place="memory", precision="full")
    assert room(half).latents.dtype == torch.float16
    assert room(full).latents.dtype == torch.float32
    for storage in (half, full):
        assert room(storage, torch.float64).latents.dtype == torch.float64
    for name, message in (
        ("place", "trajectory is 'tape'; give auto, memory or disk"),
        ("precision", "trajectory_precision is 'tape'; give half or full"),
    ):
        with pytest.raises(InputError, match=message):
            Storage(**{name: "tape"})  # type: ignore[arg-type]


def test_too_little_room_on_disk_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(shutil.disk_usage(tmp_path))(10**9, 10**9, 9000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(RunError, match=r"needs 10 kB in .* and only 9 kB is free; make room"):
        room(Storage(place="disk", precision="full", folder=tmp_path))


def test_unfinished_frames_come_in_batches(tmp_path: Path) -> None:
    kept = room(Storage(place="disk", folder=tmp_path))
    assert kept.unfinished(2) == [slice(0, 2), slice(2, 3)]
    kept.write(1, torch.zeros(5, 1, *FRAMES[1:]))
    assert kept.unfinished(2) == [slice(0, 1), slice(2, 3)]
    kept.close()


def test_available_memory_is_a_part_of_this_machine() -> None:
    assert 2**24 < available_memory() < 2**50


@pytest.fixture(scope="module")
def pipeline(load: Callable[..., PnPVideoPipeline]) -> PnPVideoPipeline:
    return load("embedded")


def run(pipeline: PnPVideoPipeline, storage: Storage, **options: Any) -> Any:
    video = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    return pipeline(
        "a photo of a red star on sand", video, width=32, height=32, batch_size=2,
        num_inference_steps=3, generator=torch.Generator().manual_seed(4), output_type="latent",
        storage=storage, **options,
    )  # fmt: skip


@pytest.mark.parametrize("precision", ["full", "half"])
def test_the_place_changes_no_result(pipeline: PnPVideoPipeline, precision: Any) -> None:
    results = [
        run(
            pipeline,
            Storage(place=place, precision=precision),
            tau_f=0.5,
            tau_a=0.4,
            feature_level=1,
        )
        for place in ("memory", "disk")
    ]
    assert torch.equal(results[0].frames, results[1].frames)
    stored = results[1].trajectory.latents
    assert isinstance(stored, LatentFile)
    assert stored.kept == (0, 3)
    stored.close()


def test_matching_finds_its_step_on_disk(pipeline: PnPVideoPipeline) -> None:
    places = [
        run(
            pipeline,
            Storage(place=place, precision="full"),
            tau_f=0.0,
            tau_a=0.0,
            attention_sharing="propagate",
            keyframe_every=3,
            keyframes="content",
        ).frames
        for place in ("memory", "disk")
    ]
    assert torch.equal(*places)


def test_half_precision_is_near_full(pipeline: PnPVideoPipeline) -> None:
    half, full = (run(pipeline, Storage(precision=p)).frames for p in ("half", "full"))
    assert not torch.equal(half, full)
    assert (half - full).norm() < 0.01 * full.norm()


def test_sampling_back_needs_no_room_for_all_steps(pipeline: PnPVideoPipeline) -> None:
    result = run(pipeline, Storage(precision="full"))
    options = pipeline.model_options.override({"steps": 3})
    whole, parts = (
        OpenEdit(
            pipeline.model,
            Edit(source=result.trajectory, options=options, generators=seeded(0), batch_size=size),
            QUIET,
        ).reconstruct()
        for size in (3, 2)
    )
    assert parts.shape == result.trajectory.clean.shape
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-4)
