"""Sizes, resizing and both kinds of autoencoder, there and back."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from pnpvideo.catalogue.find_model import EMBEDDED
from pnpvideo.errors import InputError
from pnpvideo.models.autoencoder import (
    ImageAutoencoder,
    frames_to_tensor,
    tensor_to_frames,
    working_size,
)
from pnpvideo.pixels.resize import resize_frames


@pytest.mark.parametrize(
    ("width", "height", "side", "expected"),
    [
        (512, 512, 512, (512, 512)),
        (1920, 1080, 512, (680, 384)),
        (1080, 1920, 512, (384, 680)),
        (64, 64, 512, (512, 512)),
        (4000, 10, 512, (10240, 24)),
    ],
)
def test_the_default_size_keeps_area_and_aspect(
    width: int, height: int, side: int, expected: tuple[int, int]
) -> None:
    if max(expected) > 8192:
        told = "source is 4000x10, .* work at 10240x24, more than the 8192 .* crop the source, or"
        with pytest.raises(InputError, match=told):
            working_size(width, height, side, 8)
    else:
        assert working_size(width, height, side, 8) == expected


@pytest.mark.parametrize("wanted", [(0, 64), (-8, 64), (60, 64), (64, 63), (9000, 64)])
def test_impossible_sizes_are_named(wanted: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"size is {wanted[0]}x{wanted[1]}; give multiples of 8"):
        working_size(64, 64, 512, 8, wanted)


def test_shrinking_averages_and_nothing_happens_at_the_same_size() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
    assert resize_frames(frames, 12, 8) is frames
    small = resize_frames(frames, 6, 4)
    means = frames.reshape(2, 4, 2, 6, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(small, means, atol=1)
    assert resize_frames(frames, 24, 16).shape == (2, 16, 24, 3)


def test_frames_and_tensors_convert_without_loss() -> None:
    frames = np.arange(2 * 8 * 16 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 8, 16, 3)
    tensor = frames_to_tensor(frames)
    assert tensor.shape == (2, 3, 8, 16)
    assert tensor.min() >= -1
    assert tensor.max() <= 1
    np.testing.assert_array_equal(tensor_to_frames(tensor), frames)


def test_latents_are_the_scaled_and_shifted_mean() -> None:
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=2,
        scaling_factor=0.3,
        shift_factor=0.1,
    ).eval()
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert ImageAutoencoder(vae).factor == 2
    latents = ImageAutoencoder(vae).encode(images)
    with torch.no_grad():
        mean = vae.encode(images).latent_dist.mean
        back = vae.decode(mean).sample.clamp(-1, 1)
    torch.testing.assert_close(latents, (mean - 0.1) * 0.3)
    torch.testing.assert_close(ImageAutoencoder(vae).decode(latents), back, rtol=1e-4, atol=1e-4)


def test_the_tiny_autoencoder_works_the_same_way() -> None:
    vae = AutoencoderTiny.from_pretrained(EMBEDDED, subfolder="vae").eval()
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    latents = ImageAutoencoder(vae).encode(images)
    side = 32 // ImageAutoencoder(vae).factor
    assert latents.shape == (1, vae.config.latent_channels, side, side)
    with torch.no_grad():
        back = vae.decode(vae.encode(images).latents).sample.clamp(-1, 1)
    torch.testing.assert_close(ImageAutoencoder(vae).decode(latents), back, rtol=1e-3, atol=1e-3)


def kinds(channels: int, blocks: int) -> list[Any]:
    """Both classes with a factor of 2 to the power of blocks - 1."""
    widths = (8,) * blocks
    large = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=widths,
        norm_num_groups=2,
        latent_channels=channels,
        sample_size=64,
    )
    tiny = AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=(1,) * blocks,
        num_decoder_blocks=(1,) * blocks,
        latent_channels=channels,
    )
    tiny.tile_sample_min_size = 64
    return [large.eval(), tiny.eval()]


@pytest.mark.parametrize(("channels", "blocks"), [(4, 3), (8, 4), (16, 2)])
@pytest.mark.parametrize("kind", [0, 1])
def test_any_factor_and_number_of_channels(channels: int, blocks: int, kind: int) -> None:
    autoencoder = ImageAutoencoder(kinds(channels, blocks)[kind])
    assert autoencoder.factor == 2 ** (blocks - 1)
    shape = autoencoder.latents_shape(1, (128, 64))
    assert shape == (1, channels, 64 // autoencoder.factor, 128 // autoencoder.factor)
    assert autoencoder.size_of(shape) == (128, 64)
    images = torch.rand(1, 3, 64, 128) * 2 - 1
    assert autoencoder.encode(images).shape == shape
    whole = autoencoder.decode(torch.randn(shape))
    assert whole.shape == (1, 3, 64, 128)
    autoencoder.use_tiles()
    assert torch.isfinite(autoencoder.encode(images)).all()
    seen: list[int] = []
    autoencoder.vae.decoder.register_forward_pre_hook(lambda _, x: seen.append(x[0].shape[-1]))
    assert autoencoder.encode(images).shape == shape
    assert autoencoder.decode(torch.randn(shape)).shape == whole.shape
    assert max(seen) == 64 // autoencoder.factor
