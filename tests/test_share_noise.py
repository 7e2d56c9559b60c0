"""Shared noise has unit variance and the correlation between frames that it should have."""

import pytest
import torch

from pnpvideo.share_noise import gaussian_noise, share_noise


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
