"""Frames averaged along the source's motion, beside a naive reference pixel by pixel."""

from collections.abc import Iterator

import numpy as np
import pytest

from pnpvideo.clips.clip import Frames
from pnpvideo.pixels.blend import blend_frames
from pnpvideo.pixels.flow import find_flow
from pnpvideo.pixels.scenes import find_scenes

HEIGHT, WIDTH = 64, 80


def ground(shift: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    x = x - shift
    red = 128 + 60 * np.sin(x / 5) * np.cos(y / 7) + 50 * np.sin((x + 2 * y) / 11)
    green = 128 + 70 * np.cos((x - y) / 9) + 40 * np.sin(x / 4)
    return np.stack([red, green, 255 - red], axis=2).clip(0, 255)


def moving(count: int, pixels: float = 1.5) -> Frames:
    return np.stack([ground(pixels * i) for i in range(count)]).round().astype(np.uint8)


def noisy(frames: Frames, deviation: float = 12) -> Frames:
    noise = np.random.default_rng(3).normal(0, deviation, frames.shape)
    return (frames + noise).round().clip(0, 255).astype(np.uint8)


def blend(frames: Frames, source: Frames, radius: int = 2, batch: int = 4) -> Frames:
    def batches(of: Frames) -> Iterator[Frames]:
        return (of[i : i + batch] for i in range(0, len(of), batch))

    scenes = find_scenes(batches(source))
    return np.concatenate(list(blend_frames(batches(frames), batches(source), scenes, radius)))


def cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' kernel with OpenCV's a of -0.75."""
    d, a = np.abs(distance), -0.75
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    return np.where(d <= 1, near, a * (d**3 - 5 * d**2 + 8 * d - 4))


def sample(picture: np.ndarray, x: float, y: float, reach: int) -> np.ndarray:
    """At one place, over 2 reach x 2 reach pixels: 1 linear, 2 cubic."""
    columns = int(np.floor(x)) + np.arange(1 - reach, 1 + reach)
    rows = int(np.floor(y)) + np.arange(1 - reach, 1 + reach)
    kernel = cubic if reach == 2 else (lambda d: 1 - np.abs(d))
    inside = picture[rows.clip(0, HEIGHT - 1)][:, columns.clip(0, WIDTH - 1)].astype(np.float64)
    return np.einsum("ijc,i,j->c", inside, kernel(rows - y), kernel(columns - x))


def naive(frames: Frames, source: Frames, at: int, y: int, x: int, radius: int) -> np.ndarray:
    """One pixel of frame `at`, every neighbour followed on its own."""
    total, weight = (radius + 1) * frames[at, y, x].astype(np.float64), float(radius + 1)
    for other in range(max(at - radius, 0), min(at + radius + 1, len(frames))):
        if other == at:
            continue
        trusted, place, step = True, np.array([x, y], dtype=np.float64), np.sign(other - at)
        window = []
        for i in (-2, -1, 0, 1, 2):
            for j in (-2, -1, 0, 1, 2):
                window.append(np.array([x + j, y + i], dtype=np.float64))
        for frame in range(at, other, step):
            there = find_flow(source[frame], source[frame + step], WIDTH, HEIGHT)
            back = find_flow(source[frame + step], source[frame], WIDTH, HEIGHT)
            window = [p + sample(there, *p, 1) for p in window]
            flow = sample(there, *place, 1)
            returned = sample(back, *(place + flow), 1)
            limit = 0.01 * (flow @ flow + returned @ returned) + 0.5
            trusted &= (flow + returned) @ (flow + returned) < limit
            place = place + flow
            trusted &= bool((place >= 0).all() and (place <= (WIDTH - 1, HEIGHT - 1)).all())
        if not trusted:
            continue
        unlike = 0.0
        for number, moved in enumerate(window):
            mine = source[at, y - 2 + number // 5, x - 2 + number % 5]
            unlike += np.square(mine - sample(source[other], *moved, 1)).mean() / 25
        share = (radius + 1 - abs(other - at)) * np.exp(-unlike / (2 * 25.5**2))
        total += share * sample(frames[other], *place, 2)
        weight += share
    return total / weight


def test_a_pixel_is_what_a_naive_reference_says() -> None:
    source = moving(5, 2.3)
    source[:, 20:40, 30:50] = np.roll(moving(5, -1)[:, 20:40, 30:50], 5, axis=2)
    frames = noisy(source)
    blended = blend(frames, source)
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(150):
        at, y, x = rng.integers(0, 5), rng.integers(4, HEIGHT - 4), rng.integers(4, WIDTH - 4)
        errors.append(np.abs(naive(frames, source, at, y, x, 2) - blended[at, y, x]).max())
    # OpenCV takes places to 1/32 pixel; a pixel at the limit of trust may fall on either side.
    assert np.quantile(errors, 0.97) < 1.6
    assert np.median(errors) < 0.8


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_noise_on_a_still_source_averages_out(radius: int) -> None:
    source = moving(9, 0)
    left = blend(noisy(source), source, radius).astype(float) - source
    weights = radius + 1 - np.abs(np.arange(-radius, radius + 1))
    weights = weights / weights.sum()
    assert left[4].std() == pytest.approx(12 * np.sqrt(np.square(weights).sum()), rel=0.08)
    # At the clip's ends there are fewer neighbours.
    ends = weights[radius:] / weights[radius:].sum()
    assert left[0].std() == pytest.approx(12 * np.sqrt(np.square(ends).sum()), rel=0.08)


def test_noise_on_a_moving_source_averages_out_and_the_picture_stays() -> None:
    source = moving(7, 1.5)
    inner = (slice(2, 5), slice(8, -8), slice(12, -12))
    assert np.abs(blend(source, source).astype(float) - source)[inner].mean() < 1.5
    left = blend(noisy(source), source).astype(float) - source
    assert left[inner].std() < 0.6 * 12


def test_nothing_appears_behind_what_moves() -> None:
    still = moving(7, 0)
    for i, frame in enumerate(still):
        frame[20:44, 10 + 6 * i : 34 + 6 * i] = (250, 30, 30)
    blended = blend(still, still)
    averaged = np.mean(still[1:6], axis=0)
    assert np.abs(blended[3].astype(float) - still[3]).mean() < 1
    assert np.abs(averaged - still[3]).mean() > 5


def test_a_flash_of_the_source_stays_in_its_frame() -> None:
    source = moving(7, 0) // 2
    source[3] += 100
    blended = blend(source, source)
    assert np.abs(blended.astype(float) - source).mean() < 1


def test_scenes_are_not_mixed() -> None:
    scenes = [moving(6, 1), 255 - moving(5, -1)[:, ::-1]]
    source = np.concatenate(scenes)
    frames = noisy(source)
    expected = [blend(frames[:6], scenes[0]), blend(frames[6:], scenes[1])]
    np.testing.assert_array_equal(blend(frames, source), np.concatenate(expected))


def test_batches_change_nothing() -> None:
    source = moving(8)
    frames = noisy(source)
    whole = blend(frames, source, batch=8)
    for batch in (1, 3):
        np.testing.assert_array_equal(blend(frames, source, batch=batch), whole)


def test_one_frame_and_no_radius_leave_all_as_it_is() -> None:
    frames, source = noisy(moving(3)), moving(3)
    np.testing.assert_array_equal(blend(frames[:1], source[:1]), frames[:1])
    np.testing.assert_array_equal(blend(frames, source, radius=0), frames)


def test_frames_are_read_as_they_are_needed() -> None:
    source, read = moving(9), []

    def frames() -> Iterator[Frames]:
        for i in range(9):
            read.append(i)
            yield source[i : i + 1]

    blended = blend_frames(frames(), [source], find_scenes([source]), 2)
    for i in range(9):
        next(blended)
        assert len(read) == min(i + 3, 9)


def test_another_number_of_source_frames_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        blend(moving(4), moving(3))
