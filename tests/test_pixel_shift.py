"""How far results lie beside their sources: pictures whose displacement is known, in two looks."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage.registration import phase_cross_correlation

from pnpvideo.evaluation.common_shift import common_shift
from pnpvideo.evaluation.pixel_shift import Evidence, pixel_shifts

FINE = 8
"""Pictures are drawn so many times larger, moved by whole pixels, and made small by means."""
SIDE = 192
Frame = NDArray[np.uint8]


def drawn(
    seed: int, look: str, *, x: float = 0, y: float = 0, zoom: float = 1, side: int = SIDE
) -> Frame:
    """Some things in a place of their own (side, side, 3), as outlines or filled, displaced."""
    generator = np.random.default_rng(seed)
    colours = np.random.default_rng([seed, len(look)])
    size = side * FINE
    image = Image.new("RGB", (size, size), "white" if look == "lines" else (70, 90, 160))
    pen = ImageDraw.Draw(image)
    for _ in range(7):
        middle, reach = generator.uniform(0.25, 0.75, 2), generator.uniform(0.1, 0.2)
        angles = np.sort(generator.uniform(0, 2 * np.pi, 5))
        points = middle + reach * np.stack([np.cos(angles), np.sin(angles)], 1)
        points = (points - 0.5) * zoom * size + size / 2 + np.array([x, y]) * FINE
        shape = [tuple(point) for point in points]
        if look == "lines":
            pen.polygon(shape, "white")
            pen.line([*shape, *shape[:2]], "black", width=2 * FINE, joint="curve")
        else:
            pen.polygon(shape, tuple(int(c) for c in colours.integers(60, 256, 3)))
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


@pytest.mark.parametrize("shift", [(0, 0), (0.25, 0), (0.5, -0.375), (1, 1), (-4, 3.5)])
def test_a_known_displacement_in_the_same_look_and_in_another(shift: tuple[float, float]) -> None:
    x, y = shift
    source = drawn(1, "lines")
    alike = pixel_shifts(drawn(1, "lines", x=x, y=y)[None], source[None])
    reference = phase_cross_correlation(
        drawn(1, "lines", x=x, y=y)[..., 0], source[..., 0], upsample_factor=50, normalization=None
    )[0]
    assert alike.distance == pytest.approx([math.hypot(x, y)], abs=0.02)
    assert alike.distance == pytest.approx([math.hypot(*reference)], abs=0.05)
    filled = pixel_shifts(drawn(1, "filled", x=x, y=y)[None], source[None])
    assert filled.distance == pytest.approx([math.hypot(x, y)], abs=0.25)
    # What its own error tells.
    assert abs(filled.distance[0] - math.hypot(x, y)) < 3 * filled.error[0]
    # Colours alone are no displacement.
    inverted = pixel_shifts(255 - drawn(1, "lines", x=x, y=y)[None] // 2, source[None])
    assert inverted.distance == pytest.approx([math.hypot(x, y)], abs=0.03)


def test_what_is_edited_is_not_compared() -> None:
    source, result = drawn(2, "filled"), drawn(2, "filled", x=0.5).copy()
    edited = np.zeros((2, SIDE, SIDE), bool)
    edited[:, 60:120, 50:110] = True
    result[edited[0]] = drawn(3, "lines")[edited[0]]
    both = np.stack([source, source]), np.stack([result, result])
    found = pixel_shifts(both[1], both[0], edited)
    assert found.distance == pytest.approx([0.5, 0.5], abs=0.05)
    # Where that is everything, everything is compared.
    whole = pixel_shifts(both[1], both[0], np.ones_like(edited))
    assert whole.distance == pytest.approx(pixel_shifts(both[1], both[0]).distance)


def test_a_large_picture_tells_its_own_pixels() -> None:
    source, result = (drawn(4, "filled", x=x, side=768) for x in (0, 1.5))
    assert pixel_shifts(result[None], source[None]).distance == pytest.approx([1.5], abs=0.05)


@pytest.mark.parametrize("side", [8, 40, SIDE])
def test_no_edges_have_no_displacement(side: int) -> None:
    plain, noise = np.full((1, side, side, 3), 128, np.uint8), np.random.default_rng(0)
    found = pixel_shifts(plain, plain)
    assert np.isnan([*found.distance, *found.error]).all()
    assert common_shift([found.evidence] * 9) is None
    # Nor have pictures that have nothing in common.
    one, other = noise.integers(0, 256, (2, 1, side, side, 3), np.uint8)
    assert np.isnan(pixel_shifts(one, other).distance).all()


@pytest.mark.parametrize(
    ("look", "x", "y", "zoom"),
    [("lines", 0, 0, 1), ("lines", 0.25, -0.5, 1), ("painted", 0.25, 0, 1.01)],
)
def test_many_results_tell_a_displacement_and_a_zoom(
    look: str, x: float, y: float, zoom: float
) -> None:
    told = []
    for seed in range(8):
        result = drawn(seed, "filled", x=x, y=y, zoom=zoom, side=320)
        told.append(pixel_shifts(result[None], drawn(seed, look, side=320)[None]).evidence)
    found = common_shift(told)
    assert found is not None
    assert found.count == 8
    # An interval of a few would be far too narrow.
    assert common_shift(told[:5]) is not None
    assert common_shift(told[:4]) is None
    for estimate, truth in ((found.x, x), (found.y, y)):
        assert estimate.value == pytest.approx(truth, abs=0.2)
        assert estimate.low <= estimate.value <= estimate.high
        assert estimate.low - 0.1 < truth < estimate.high + 0.1
    if look == "painted":  # Outlines seem larger than what they are around.
        assert found.zoom.value == pytest.approx(zoom - 1, abs=0.004)
    # A file keeps enough of it.
    again = common_shift([Evidence.of_values(one.values) for one in told])
    assert again is not None
    assert (again.x.value, again.zoom.value) == pytest.approx(
        (found.x.value, found.zoom.value), abs=1e-3
    )


def test_the_likeness_is_a_normalised_cross_correlation() -> None:
    """At no displacement, of one picture and itself, it is all that there is of edges."""
    source = drawn(5, "filled")
    evidence = pixel_shifts(source[None], source[None]).evidence
    assert evidence.likeness.sum(0)[6, 6] == pytest.approx(evidence.edges[:, 0].sum(), rel=1e-3)
    assert evidence.likeness.sum(0).max() == evidence.likeness.sum(0)[6, 6]
