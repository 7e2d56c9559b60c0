"""The flow of moved pictures, in latent pixels."""

import numpy as np
import pytest

from pnpvideo.pixels.flow import estimate_motion


def textured(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    grey = 128 + 60 * np.sin(x / 5.0) * np.cos(y / 7.0) + 50 * np.sin((x + 2 * y) / 11.0)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def test_a_shift_is_found_at_the_latents_resolution() -> None:
    wide = textured(96, 160)
    frames = np.stack([wide[8 + 2 * i : 72 + 2 * i, 40 - 4 * i : 136 - 4 * i] for i in range(4)])
    motion = list(estimate_motion([frames[:3], frames[3:]], 12, 8))
    assert len(motion) == 3
    for flow in motion:
        assert flow.shape == (8, 12, 2)
        np.testing.assert_allclose(flow[1:-1, 1:-1, 0], 4 / 8, atol=0.05)
        np.testing.assert_allclose(flow[1:-1, 1:-1, 1], -2 / 8, atol=0.05)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 64), (24, 200)])
def test_small_pictures_have_motion_too(height: int, width: int) -> None:
    frames = np.stack([textured(height, width)] * 2)
    (flow,) = estimate_motion([frames], width // 8, height // 8)
    np.testing.assert_allclose(flow, 0, atol=0.01)


def test_one_frame_has_none() -> None:
    assert list(estimate_motion([textured(64, 64)[None]], 8, 8)) == []
