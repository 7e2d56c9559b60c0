"""Photos told from drawings."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pnpvideo.pixels.photo import looks_like_photo

SAMPLES = Path(__file__).parent.parent / "samples"
DRAWINGS = [*sorted((SAMPLES / "drawings").glob("*.png")), *sorted(SAMPLES.glob("*.*g"))]


def natural(height: int, width: int) -> NDArray[np.uint8]:
    """Return noise with the spectrum of photos: amplitudes fall with the frequency (Field 1987)."""
    rng = np.random.default_rng(0)
    rows, columns = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    falling = 1 / np.maximum(np.hypot(rows, columns), 1 / max(height, width))
    values = np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) * falling).real
    grey = 128 + 50 * (values - values.mean()) / values.std()
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, 2)


@pytest.mark.parametrize("size", [(600, 400), (240, 426), (64, 64), (1080, 1920)])
def test_texture_everywhere_is_a_photo(size: tuple[int, int]) -> None:
    assert looks_like_photo(natural(*size))


def drawing(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.name)
def test_the_samples_are_not(path: Path) -> None:
    assert not looks_like_photo(drawing(path))


@pytest.mark.parametrize("noise", [5, 30])
def test_a_scan_is_not(noise: int) -> None:
    paper = cv2.resize(drawing(DRAWINGS[0]), (1600, 1600)).astype(np.float64)
    shade = np.linspace(1, 0.7, 1600)[:, None, None]
    scan = paper * shade + np.random.default_rng(0).normal(0, noise, paper.shape)
    assert not looks_like_photo(np.clip(scan, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (2000, 10), (64, 64)])
def test_nor_is_a_plain_picture_of_any_size(size: tuple[int, int]) -> None:
    assert not looks_like_photo(np.full((*size, 3), 128, np.uint8))
