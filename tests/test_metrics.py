"""The measures of pictures and clips, beside naive ones in float64 and known answers."""

import math

import numpy as np
import pytest

from pnpvideo.evaluation.clip_metrics import warp_back, warp_error
from tools.metrics import flicker, iou, psnr, ssim

RNG = np.random.default_rng(0)


def naive_psnr(one: np.ndarray, other: np.ndarray) -> float:
    total = 0.0
    for a, b in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True):
        total += (a - b) ** 2
    return 10 * math.log10(1 / (total / one.size))


def naive_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Wang et al. 2004, equation 13, with uniform windows of 7 pixels and unbiased variances."""
    c1, c2 = 0.01**2, 0.03**2
    values = []
    height, width, channels = one.shape
    for channel in range(channels):
        for top in range(height - 6):
            for left in range(width - 6):
                x = one[top : top + 7, left : left + 7, channel].ravel()
                y = other[top : top + 7, left : left + 7, channel].ravel()
                covariance = ((x - x.mean()) * (y - y.mean())).sum() / 48
                above = (2 * x.mean() * y.mean() + c1) * (2 * covariance + c2)
                below = (x.mean() ** 2 + y.mean() ** 2 + c1) * (x.var(ddof=1) + y.var(ddof=1) + c2)
                values.append(above / below)
    return float(np.mean(values))


def naive_warp(frame: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """frame (h, w, c) read where flow (2, h, w) leads, bilinear, the edge going on outside."""
    height, width, _ = frame.shape
    result = np.zeros_like(frame)
    for row in range(height):
        for column in range(width):
            x = min(max(column + flow[0, row, column], 0), width - 1)
            y = min(max(row + flow[1, row, column], 0), height - 1)
            for i in range(height):
                for j in range(width):
                    weight = max(0, 1 - abs(x - j)) * max(0, 1 - abs(y - i))
                    result[row, column] += weight * frame[i, j]
    return result


def naive_flicker(frames: np.ndarray, where: np.ndarray, window: int) -> float:
    """Of frames that do not move."""
    reach = window // 2
    squares = []
    for before, after, mask in zip(frames[:-1], frames[1:], where, strict=True):
        for row, column in zip(*np.nonzero(mask), strict=True):
            part = (
                slice(max(row - reach, 0), row + reach + 1),
                slice(max(column - reach, 0), column + reach + 1),
            )
            change = after[part].mean((0, 1)) - before[part].mean((0, 1))
            squares.append((change**2).mean())
    return math.sqrt(np.mean(squares))


def test_psnr() -> None:
    one, other = RNG.random((2, 9, 8, 3))
    assert psnr(one, other) == pytest.approx(naive_psnr(one, other))
    assert psnr(one, one) == math.inf
    assert psnr(np.zeros((4, 4, 3)), np.full((4, 4, 3), 0.1)) == pytest.approx(20)


def test_ssim() -> None:
    one = RNG.random((11, 10, 3))
    other = 0.6 * one + 0.4 * RNG.random((11, 10, 3))
    assert ssim(one, other) == pytest.approx(naive_ssim(other, one))
    assert ssim(one, one) == pytest.approx(1)


def test_iou() -> None:
    found = np.zeros((8, 8), bool)
    truth = found.copy()
    assert iou(found, truth) == 1
    found[:4], truth[2:6] = True, True
    assert iou(found, truth) == iou(truth, found) == pytest.approx(2 / 6)


def test_warping_reads_where_the_flow_leads() -> None:
    frames = RNG.random((2, 6, 7, 3))
    flow = RNG.uniform(-3, 3, (2, 2, 6, 7))
    expected = [naive_warp(frame, way) for frame, way in zip(frames, flow, strict=True)]
    np.testing.assert_allclose(warp_back(frames, flow), expected)


def test_warp_error_is_the_change_of_what_stays_in_sight() -> None:
    frames = RNG.random((3, 6, 7, 3))
    flow = RNG.uniform(-2, 2, (2, 2, 6, 7))
    visible = RNG.random((2, 6, 7)) < 0.6
    squares = [
        np.mean((naive_warp(after, way) - before)[mask] ** 2, axis=-1)
        for before, after, way, mask in zip(frames[:-1], frames[1:], flow, visible, strict=True)
    ]
    expected = np.concatenate(squares).mean()
    assert warp_error(frames, flow, visible) == pytest.approx(expected)


def test_a_clip_that_moves_with_its_flow_has_no_warp_error() -> None:
    wide = RNG.random((9, 20, 3))
    frames = np.stack([wide[:, 8 - 2 * i : 16 - 2 * i] for i in range(4)])
    flow = np.zeros((3, 2, 9, 8))
    flow[:, 0] = 2
    visible = np.zeros((3, 9, 8), bool)
    visible[:, :, :6] = True
    assert warp_error(frames, flow, visible) == 0
    assert warp_error(frames, 0 * flow, visible) > 0.05


@pytest.mark.parametrize("window", [3, 9])
def test_flicker(window: int) -> None:
    frames = RNG.random((3, 12, 10, 3))
    where = RNG.random((2, 12, 10)) < 0.5
    still = np.zeros((2, 2, 12, 10))
    expected = naive_flicker(frames, where, window)
    assert flicker(frames, still, where, window=window) == pytest.approx(expected)


@pytest.mark.parametrize("strength", [0.02, 0.1])
def test_brightness_that_jumps_is_flicker_and_texture_is_not(strength: float) -> None:
    texture = RNG.random((18, 18, 3)) * 0.5
    signs = np.array([1, -1, 1, -1])[:, None, None, None]
    everywhere, still = np.ones((3, 18, 18), bool), np.zeros((3, 2, 18, 18))
    shaken = texture + strength * signs
    assert flicker(shaken, still, everywhere) == pytest.approx(2 * strength)
    assert flicker(texture + 0 * signs, still, everywhere) == 0
