"""Batches shrink where the memory ends, lose nothing, and change no result."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from pnpvideo import PnPVideoPipeline
from pnpvideo.clips.as_clip import as_clip
from pnpvideo.models.batches import Batches
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.invert import invert_into, reconstruct
from pnpvideo.stages.latents import decode, encode
from pnpvideo.stages.source import ClipFrames, Source
from pnpvideo.storage.allocate import Storage, empty_trajectory


def test_a_batch_that_does_not_fit_is_done_again_in_halves() -> None:
    tried: list[slice] = []

    def work(part: slice) -> list[int]:
        tried.append(part)
        if part.stop - part.start > 3:
            raise torch.OutOfMemoryError("out of memory")
        return list(range(20))[part]

    batches = Batches(16)
    results = list(batches.run(20, work))
    assert [frame for result in results for frame in result] == list(range(20))
    assert [part.stop - part.start for part in tried] == [16, 8, 4, *[2] * 10]
    assert batches.size == 2
    assert list(batches.run(5, work)) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("one is too much"), ValueError("no"), RuntimeError("no")]
)
def test_other_errors_and_one_frame_too_large_are_raised(error: Exception) -> None:
    def work(part: slice) -> None:
        if part.stop - part.start == 1 or not isinstance(error, torch.OutOfMemoryError):
            raise error

    with pytest.raises(type(error), match=str(error)):
        list(Batches(1).run(4, work))


def test_the_last_resort_is_tried_once_and_for_a_single_frame_only() -> None:
    tried: list[str] = []

    def work(part: slice) -> None:
        tried.append(f"{part.start}-{part.stop}")
        if "resort" not in tried or part.start == 2:
            raise torch.OutOfMemoryError("too much")

    with pytest.raises(torch.OutOfMemoryError, match="too much"):
        list(Batches(2, lambda: tried.append("resort")).run(4, work))
    assert tried == ["0-2", "0-1", "resort", "0-1", "1-2", "2-3"]


def each_frame(count: int) -> tuple[range, ...]:
    return tuple(range(frame, frame + 1) for frame in range(count))


@contextmanager
def memory_for(module: torch.nn.Module, rows: int) -> Iterator[list[int]]:
    """Stands in for a small device: larger batches fail in the middle of the module's pass.

    Yields the sizes of the batches, those that failed among them.
    """
    sizes: list[int] = []

    def check(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        sizes.append(len(inputs[0]))
        if sizes[-1] > rows:
            raise torch.OutOfMemoryError("the memory of the test is used up")

    hook = module.register_forward_pre_hook(check)
    try:
        yield sizes
    finally:
        hook.remove()


@pytest.mark.parametrize("sharing", ["none", "extended", "propagate"])
def test_a_run_on_a_small_device_gives_the_same_frames(sharing: str) -> None:
    pipeline = PnPVideoPipeline.from_pretrained("embedded", torch_dtype=torch.float64)
    pipeline.set_progress_bar_config(disable=True)
    video = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()

    def run() -> torch.Tensor:
        latents, _ = pipeline(
            "a photo of a star",
            video,
            num_inference_steps=3,
            attention_sharing=sharing,
            keyframe_every=3,
            keyframe_window=1,
            height=32,
            width=32,
            generator=torch.Generator().manual_seed(0),
            batch_size=4,
            output_type="latent",
            return_dict=False,
        )
        result: torch.Tensor = latents
        return result

    whole = run()
    blocks = pipeline.unet.up_blocks[-1].resnets[-1], pipeline.vae.encoder.layers[2]
    with memory_for(blocks[0], 3) as passes, memory_for(blocks[1], 2) as encoded:
        small = run()
    assert 3 in passes
    assert max(passes) > 3
    assert 2 in encoded
    assert max(encoded) == 4
    torch.testing.assert_close(small, whole, rtol=0, atol=1e-8)


def test_a_run_fails_once_for_a_size_that_does_not_fit() -> None:
    pipeline = PnPVideoPipeline.from_pretrained("embedded")
    model = pipeline.model
    options = model.defaults.override({"steps": 1})
    block = pipeline.unet.mid_block.resnets[0]
    latents = torch.randn(24, pipeline.unet.config.in_channels, 8, 8)
    times, memory = pipeline.schedule(options).timesteps, Storage(place="memory")
    trajectory = empty_trajectory(latents.shape, times, "", memory, torch.float32)
    blank = as_clip(torch.zeros(24, 3, 64, 64))
    source = Source(ClipFrames(blank, (64, 64), memory, 4), each_frame(24), trajectory)
    how: Any = {"batch_size": 4, "callbacks": QUIET}
    with memory_for(block, 2) as inverted:
        invert_into(model, source, latents, options, **how)
    assert [count for count in inverted if count > 2] == [12, 6, 3]
    with memory_for(block, 2) as sampled:
        reconstruct(model, source, options, **how)
    assert [count for count in sampled if count > 2] == [12, 6, 3]


def test_a_frame_too_large_for_the_autoencoder_is_cut_into_tiles(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline = PnPVideoPipeline.from_pretrained("embedded")
    model, vae = pipeline.model, pipeline.vae
    vae.tile_sample_min_size = 64
    coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    video = torch.nn.functional.interpolate(coarse, (128, 128), mode="bicubic").clamp(0, 1)

    def encode_and_decode() -> torch.Tensor:
        times, memory = (1.0,), Storage(place="memory")
        shape = model.autoencoder.latents_shape(1, (128, 128))
        trajectory = empty_trajectory(shape, times, "", memory, torch.float32)
        kept = ClipFrames(as_clip(video), (128, 128), memory, 4)
        latents = encode(model, Source(kept, each_frame(1), trajectory), 4)
        (frames,) = decode(model, latents, 4)
        return torch.from_numpy(frames).float()

    def check(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].shape[-1] > largest[module]:
            raise torch.OutOfMemoryError("the memory of the test is used up")

    whole = encode_and_decode()
    largest = {vae.encoder: 64, vae.decoder: 64 // model.autoencoder.factor}
    for module in largest:
        module.register_forward_pre_hook(check)
    tiled = encode_and_decode()
    assert "overlapping tiles" in caplog.text
    assert tiled.shape == whole.shape
    assert float((tiled - whole).abs().mean()) < 3
