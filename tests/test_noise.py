"""Shared noise has unit variance and the correlation between frames that it should have."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pnpvideo.sampling.noise import (
    carry_noise,
    common_noise,
    gaussian_noise,
    noise_origins,
    share_noise,
)

SHAPE = (96, 96)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_frames_correlate_by_the_share(share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(2, 4, 128, 128, generator=generator, dtype=torch.float64)
    shared = gaussian_noise((4, 128, 128), generator, own)
    mixed = share_noise(own, shared, share)
    first, second = mixed.flatten(1)
    assert first.var().item() == pytest.approx(1, abs=0.02)
    correlation = torch.corrcoef(torch.stack([first, second]))[0, 1].item()
    assert correlation == pytest.approx(share, abs=0.02)
    assert share != 0 or mixed is own


def test_a_seed_gives_one_noise_in_every_precision() -> None:
    noises = [
        gaussian_noise((3, 4), torch.Generator().manual_seed(1), torch.empty((), dtype=dtype))
        for dtype in (torch.float64, torch.float32)
    ]
    assert torch.equal(noises[0].float(), noises[1])


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def turning_and_growing(frames: int, growth: float) -> list[np.ndarray]:
    """A flow with every fraction of a pixel, converging or opening."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] - 48.0
    flow = np.stack([growth * x - 0.05 * y + 0.3, growth * y + 0.05 * x - 0.7], axis=-1)
    return [flow.astype(np.float32)] * (frames - 1)


@pytest.mark.parametrize("growth", [-0.06, 0.0, 0.06])
def test_carried_noise_is_white(growth: float) -> None:
    frames, channels = 8, 16
    origins = noise_origins(turning_and_growing(frames, growth), (range(frames),), SHAPE)
    carried = carry_noise(draw(frames, channels, *SHAPE), origins)
    samples = channels * SHAPE[0] * SHAPE[1]
    # Four standard deviations of each statistic of independent normal values.
    for frame in carried:
        assert abs(frame.mean().item()) < 4 / samples**0.5
        assert frame.var().item() == pytest.approx(1, abs=4 * (2 / samples) ** 0.5)
        assert (frame**4).mean().item() == pytest.approx(3, abs=4 * (96 / samples) ** 0.5)
        for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (3, 1)):
            one = frame[:, dy:, dx:]
            other = frame[:, : SHAPE[0] - dy, : SHAPE[1] - dx]
            assert abs((one * other).mean().item()) < 4 / one.numel() ** 0.5
        channels_apart = torch.corrcoef(frame.flatten(1)) - torch.eye(channels)
        assert channels_apart.abs().max().item() < 5 / (SHAPE[0] * SHAPE[1]) ** 0.5


@pytest.mark.parametrize("growth", [-0.06, 0.0, 0.06])
def test_no_frame_shows_a_value_twice(growth: float) -> None:
    origins = noise_origins(turning_and_growing(8, growth), (range(8),), SHAPE)
    assert all(len(set(frame.tolist())) == len(frame) for frame in origins)
    kept = (origins[-1] < SHAPE[0] * SHAPE[1]).float().mean().item()
    assert 0.1 < kept < 0.8


@pytest.mark.parametrize("speed", [0.25, 1.0])
def test_noise_moves_as_far_as_the_picture(speed: float) -> None:
    """Also where the motion from frame to frame is less than half a pixel."""
    flow = np.zeros((*SHAPE, 2), dtype=np.float32)
    flow[..., 0] = speed
    origins = noise_origins([flow] * 8, (range(9),), SHAPE)
    carried = carry_noise(draw(9, 4, *SHAPE), origins)
    moved = round(8 * speed)
    assert torch.equal(carried[8, :, :, moved:], carried[0, :, :, :-moved])


def test_without_motion_it_stands_still_and_each_scene_starts_anew() -> None:
    still = [np.zeros((*SHAPE, 2), dtype=np.float32)] * 3
    carried = carry_noise(draw(4, 2, *SHAPE), noise_origins(still, (range(4),), SHAPE))
    assert all(torch.equal(frame, carried[0]) for frame in carried)
    moving = [np.full((*SHAPE, 2), 7, dtype=np.float32)] * 3
    origins = noise_origins(moving, (range(2), range(2, 4)), SHAPE)
    assert torch.equal(origins[2] - 2 * SHAPE[0] * SHAPE[1], origins[0])
    assert torch.equal(origins[3] - 2 * SHAPE[0] * SHAPE[1], origins[1])
    assert not torch.equal(origins[1] % (SHAPE[0] * SHAPE[1]), origins[0])


def test_one_frame_carries_its_own_noise() -> None:
    drawn = draw(1, 4, 8, 8)
    assert torch.equal(carry_noise(drawn, noise_origins([], (range(1),), (8, 8))), drawn)


def test_common_noise_comes_from_the_seed_or_from_the_first_frame_of_a_scene() -> None:
    own, scenes = draw(3, 4, *SHAPE), (range(2), range(2, 3))
    origins = noise_origins(turning_and_growing(3, 0.0), scenes, SHAPE)

    def noise(*parts: Tensor | tuple[range, ...] | None) -> Tensor:
        return common_noise(own, torch.Generator().manual_seed(2), *parts)

    assert torch.equal(noise(), gaussian_noise((4, *SHAPE), torch.Generator().manual_seed(2), own))
    assert torch.equal(noise(None, scenes), own[[0, 0, 2]])
    moving = noise(origins, scenes)
    assert torch.equal(moving[[0, 2]], own[[0, 2]])
    stays = origins[1] < SHAPE[0] * SHAPE[1]
    assert stays.float().mean().item() > 0.8
    values = own[0].flatten(1)[:, origins[1][stays].long()]
    assert torch.equal(moving[1].flatten(1)[:, stays], values)
    assert not torch.isin(noise(origins), own).any()


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_noise_of_a_keyframe_keeps_the_variance(share: float) -> None:
    own = draw(2, 4, 128, 128)
    mixed = share_noise(own, own[0], share, independent=False)
    torch.testing.assert_close(mixed[0], own[0])
    assert mixed[1].var().item() == pytest.approx(1, abs=0.02)
    correlation = torch.corrcoef(mixed.flatten(1))[0, 1].item()
    assert correlation == pytest.approx(share**0.5, abs=0.02)
