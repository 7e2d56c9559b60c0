"""The autoencoder of videos, a few frames at a time, against diffusers' own for whole clips."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import diffusers
import pytest
import torch
from flow_models import wan_vae
from torch import Tensor

from pnpvideo.errors import RunError
from pnpvideo.models.video_autoencoder import VideoAutoencoder

KINDS = {"2.1": {}, "2.2": {"is_large": True}}


@pytest.fixture(scope="module", params=KINDS)
def vae(request: pytest.FixtureRequest) -> diffusers.AutoencoderKLWan:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return wan_vae(**KINDS[request.param]).eval()


@pytest.fixture
def tiled(vae: diffusers.AutoencoderKLWan) -> Iterator[VideoAutoencoder]:
    """In tiles of 32 pixels, 24 pixels apart."""
    own = dict(vars(vae))
    autoencoder = VideoAutoencoder(vae)
    vae.enable_tiling(32, 32, 24, 24)
    yield autoencoder
    vars(vae).update({name: own[name] for name in own if name.startswith(("tile", "use"))})


def frames(count: int, side: int = 32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, side, side + 16, generator=generator) * 2 - 1


@torch.no_grad()
def whole_encoded(vae: Any, images: Tensor) -> Tensor:
    """(pieces, c, h, w), of frames padded to 1 + 4 k."""
    images = torch.cat([images, *[images[-1:]] * (-(len(images) - 1) % 4)])
    mean = vae.encode(images.transpose(0, 1)[None]).latent_dist.mean[0].transpose(0, 1)
    shift, scale = (
        torch.tensor(values).view(1, -1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return (mean - shift) / scale


@torch.no_grad()
def whole_decoded(vae: Any, latents: Tensor) -> Tensor:
    shift, scale = (
        torch.tensor(values).view(1, -1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return vae.decode((latents * scale + shift).transpose(0, 1)[None]).sample[0].transpose(0, 1)


def in_parts(step: Any, given: Tensor, *ends: int) -> Tensor:
    """The outputs for consecutive parts of what is given, which end there."""
    return torch.cat([step(given[a:b]) for a, b in pairwise([0, *ends, len(given)]) if a < b])


@pytest.mark.parametrize("count", [1, 2, 4, 5, 6, 41])
def test_a_scene_in_parts_is_the_whole(vae: diffusers.AutoencoderKLWan, count: int) -> None:
    """Bit for bit, however it is cut, and its beginning is that of the longer one."""
    autoencoder, images = VideoAutoencoder(vae), frames(count)
    latents = whole_encoded(vae, images)
    assert latents.shape == autoencoder.latents_shape(-(-(count - 1) // 4) + 1, (48, 32))
    assert torch.equal(autoencoder.encode(images), latents)
    assert torch.equal(in_parts(autoencoder.encoder(), images, 1, min(5, count)), latents)
    shown = whole_decoded(vae, latents)
    assert len(shown) == autoencoder.frame_count(len(latents))
    assert torch.equal(autoencoder.decode(latents), shown)
    ends = [end for end in (1, 2, 7) if end < len(latents)]
    assert torch.equal(in_parts(autoencoder.decoder(), latents, *ends), shown)
    if count == 6:
        assert torch.equal(autoencoder.encode(images[:5]), latents[:2])
        assert torch.equal(autoencoder.decode(latents[:2]), shown[:5])


def test_scenes_side_by_side_do_not_disturb_each_other(vae: diffusers.AutoencoderKLWan) -> None:
    autoencoder, clips = VideoAutoencoder(vae), [frames(9, seed=seed) for seed in (1, 2)]
    encoders = [autoencoder.encoder() for _ in clips]
    found = [[encode(clip[:5]) for encode, clip in zip(encoders, clips, strict=True)]]
    vae.encode(frames(5).transpose(0, 1)[None])  # And not the model's own memory.
    found += [[encode(clip[5:]) for encode, clip in zip(encoders, clips, strict=True)]]
    latents = [torch.cat(parts) for parts in zip(*found, strict=True)]
    assert all(
        torch.equal(one, whole_encoded(vae, clip)) for one, clip in zip(latents, clips, strict=True)
    )
    decoders = [autoencoder.decoder() for _ in clips]
    first = [decode(one[:1]) for decode, one in zip(decoders, latents, strict=True)]
    rest = [decode(one[1:]) for decode, one in zip(decoders, latents, strict=True)]
    for parts, one in zip(zip(first, rest, strict=True), latents, strict=True):
        assert torch.equal(torch.cat(parts), whole_decoded(vae, one))


def test_tiles_are_those_of_diffusers(tiled: VideoAutoencoder) -> None:
    """Bit for bit, in parts too; and near the whole, as tiles see less of what is around."""
    vae, images = tiled.vae, frames(6, 56)
    latents = whole_encoded(vae, images)
    assert torch.equal(in_parts(tiled.encoder(), images, 1), latents)
    shown = whole_decoded(vae, latents)
    assert torch.equal(in_parts(tiled.decoder(), latents, 2), shown)
    small = frames(5, 16)
    vae.use_tiling = False
    assert float((shown - whole_decoded(vae, latents)).abs().mean()) < 0.2
    one = whole_encoded(vae, small), whole_decoded(vae, latents[..., :4, :4])
    tiled.use_tiles()
    assert vae.use_tiling
    # Not bit for bit: diffusers makes the last convolution of all pieces at once, and the result
    # for so few numbers depends on their count.
    torch.testing.assert_close(tiled.encode(small), one[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(tiled.decode(latents[..., :4, :4]), one[1], rtol=1e-5, atol=1e-6)


def test_memory_does_not_grow_with_the_scene(vae: diffusers.AutoencoderKLWan) -> None:
    autoencoder, sizes = VideoAutoencoder(vae), []
    for step, given in (
        (autoencoder.encoder(), frames(25)),
        (autoencoder.decoder(), torch.randn(autoencoder.latents_shape(7, (48, 32)))),
    ):
        for part in given.split(1) if len(given) == 7 else [given[:1], *given[1:].split(4)]:
            step(part)
            (memory,) = step._tiles.memories.values()  # type: ignore[attr-defined]
            kept = [entry for entry in memory if isinstance(entry, Tensor)]
            sizes.append(sum(entry.untyped_storage().nbytes() for entry in kept))
    assert len(sizes) == 14
    assert len(set(sizes[2:7])) == len(set(sizes[9:])) == 1


@pytest.mark.parametrize("tiles", [False, True])
def test_pieces_precision_and_numbers(
    tiles: bool, tiled: VideoAutoencoder, vae: diffusers.AutoencoderKLWan
) -> None:
    tiled.vae.use_tiling = tiles
    scenes = [range(1), range(1, 7), range(7, 16)]
    found = tiled.pieces(16, lambda: scenes)
    assert [(part.start, part.stop) for part in found] == [
        (0, 1), (1, 2), (2, 6), (6, 7), (7, 8), (8, 12), (12, 16)
    ]  # fmt: skip
    assert tiled.size_of((5, 4, 2, 3)) == (3 * tiled.factor, 2 * tiled.factor)
    assert [tiled.frame_count(count) for count in (0, 1, 2, 21)] == [0, 1, 5, 81]
    encode = tiled.encoder()
    encode(frames(3))
    with pytest.raises(ValueError, match="only the last piece"):
        encode(frames(1))
    vae.to(torch.bfloat16)
    try:
        latents = tiled.encode(frames(5, 48))
        assert latents.dtype == tiled.dtype == torch.bfloat16
        images = tiled.decode(latents.float())
        assert images.dtype == torch.float32
        assert float(images.abs().max()) <= 1
    finally:
        vae.float()
    with pytest.raises(RunError, match="autoencoder made values that are not numbers"):
        tiled.encode(frames(1) * float("inf"))
    with pytest.raises(RunError, match="autoencoder made values that are not numbers"):
        tiled.decode(torch.full(tiled.latents_shape(1, (32, 32)), float("nan")))
