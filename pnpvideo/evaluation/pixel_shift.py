"""How far results lie beside their sources, in parts of a pixel, though both look different.

Pure functions of frames, uint8 (n, height, width, 3). Pictures whose shorter side is longer than
512 pixels are compared at 512.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.interpolate import RectBivariateSpline
from scipy.optimize import minimize

from pnpvideo.clips.clip import Frames
from pnpvideo.evaluation.masks import Masks
from pnpvideo.evaluation.pixel_metrics import Each

Array = NDArray[np.float64]
Picture = NDArray[np.float32]

_SIDE = 512
_SCALES = (1.5, 3.0)  # pixels: the one is exact, the other sees a thick line as one edge
_FAINT = 0.03  # an edge that counts half as much as a strong one, in parts of white
_REACH = 6  # pixels that displacements are looked for up to
_TILES = 4  # a side
_UNSURE = 1.0  # pixels: what has a larger error is not told
_NO_EDGES = 1e-6  # mean square of what rounding makes of a plain picture
_ALIKE = 0.2  # a likeness that chance does not reach
_WINDOW = 2 * _REACH + 1


@dataclass(frozen=True)
class Evidence:
    """What pictures tell of a displacement, each as much as it has edges; it adds up.

    likeness: (4, 13, 13), how alike the edges of the upper left, upper right, lower left and lower
    right quarter are at displacements from -6 to 6 pixels, down and across. edges: (4, 3), how much
    edge there is in each quarter, and that times its mean place beside the middle, x and y, pixels.
    """

    likeness: Array
    edges: Array

    @classmethod
    def none(cls) -> Self:
        return cls(np.zeros((4, _WINDOW, _WINDOW)), np.zeros((4, 3)))

    @classmethod
    def of_values(cls, values: Sequence[float]) -> Self:
        """From the numbers that `values` gave. ValueError where they are not so many."""
        edges, likeness = np.split(np.array(values, np.float64), [12])
        return cls(likeness.reshape(4, _WINDOW, _WINDOW), edges.reshape(4, 3))

    @property
    def values(self) -> list[float]:
        """Everything as a file keeps it."""
        return [float(f"{x:.6g}") for x in (*self.edges.ravel(), *self.likeness.ravel())]

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(self.likeness + other.likeness, self.edges + other.edges)


@dataclass(frozen=True, kw_only=True)
class Shifts:
    """Of each frame: by how many pixels it lies beside its source (n,), not a number where that
    cannot be told, and the standard error of that (n,). evidence: of all frames.
    """

    distance: Each
    error: Each
    evidence: Evidence


def pixel_shifts(result: Frames, source: Frames, mask: Masks | None = None) -> Shifts:
    """How far each result lies beside its source; displacements up to 6 pixels are found.

    Edges are where the local energy is, that of first and second derivatives together: it has one
    crest along a step as along a line (the boundary tensor of Koethe 2003, "Integrated edge and
    junction detection with the boundary tensor"). The displacement is that of the highest
    normalised cross-correlation of the edges' directions; their sign and most of their strength do
    not count, and so colours and light do not. The error is by the jackknife over the picture's
    tiles.

    mask: what is edited, and so not compared; where that is everything, everything is compared.
    """
    distance, errors, evidence = [], [], Evidence.none()
    shrunk = min(1.0, _SIDE / min(source.shape[1:3]))
    for number, (one, other) in enumerate(zip(source, result, strict=True)):
        edited = np.zeros(one.shape[:2], np.uint8)
        if mask is not None and not mask[number].all():
            edited = mask[number].astype(np.uint8)
        tiles = _Tiles.of(_at(shrunk, one), _at(shrunk, other), _at(shrunk, edited) > 0)
        place, error = tiles.displacement()
        known = error <= _UNSURE
        distance.append(float(np.hypot(*place)) / shrunk if known else np.nan)
        errors.append(error / shrunk if known else np.nan)
        evidence += tiles.evidence()
    return Shifts(distance=np.array(distance), error=np.array(errors), evidence=evidence)


def _at(share: float, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if share == 1:
        return picture
    return np.asarray(cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA))


@dataclass(frozen=True, kw_only=True)
class _Tiles:
    """A picture's tiles, row by row, beside its displaced source.

    products: (scales, tiles, 13, 13) of the edges' directions. against: of the same shape, what the
    result has of edges there. energy: (scales, tiles) of the source's edges. place: (scales,
    tiles, 2), that times its mean place beside the middle, x and y.
    """

    products: Array
    against: Array
    energy: Array
    place: Array

    @classmethod
    def of(cls, source: Frames, result: Frames, edited: NDArray[np.bool_]) -> Self:
        found = [_compare(source, result, edited, scale) for scale in _SCALES]
        products, against, energy, place = (np.array(x) for x in zip(*found, strict=True))
        return cls(products=products, against=against, energy=energy, place=place)

    def likeness(self, chosen: Array) -> Array:
        """(tiles, 13, 13), the parts of the normalised cross-correlation that tiles give: their sum
        is that of the picture, the mean of all scales, in [-1, 1]. chosen: (tiles,) of 0 and 1.
        """
        there = np.einsum("stij,t->sij", self.against, chosen)
        energy = (self.energy @ chosen)[:, None, None]
        norm = np.sqrt(np.maximum(there * energy, 1e-12))
        return np.asarray((self.products / norm[:, None]).mean(0) * chosen[:, None, None])

    def displacement(self) -> tuple[Array, float]:
        """Of the result, x and y, and its standard error; that is infinite where there is none."""
        used = self.energy.sum(0) > max(_NO_EDGES, 1e-6 * self.energy.sum())
        everything = used.astype(np.float64)
        likeness = self.likeness(everything).sum(0)
        found = highest(likeness)
        if found is None or likeness.max() < _ALIKE or used.sum() < 2:
            return np.full(2, np.nan), np.inf
        others = []
        for tile in np.flatnonzero(used):
            chosen = everything.copy()
            chosen[tile] = 0
            without = highest(self.likeness(chosen).sum(0))
            if without is None:
                return found, np.inf
            others.append(without)
        spread = np.square(np.array(others) - np.mean(others, 0)).sum()
        return found, float(np.sqrt(spread * (len(others) - 1) / len(others)))

    def evidence(self) -> Evidence:
        if self.energy.sum() < _NO_EDGES:
            return Evidence.none()

        def quarters(tiles: Array) -> Array:
            half = _TILES // 2
            parts = tiles.reshape(len(_SCALES), 2, half, 2, half, *tiles.shape[2:])
            return np.asarray(parts.sum((2, 4)).reshape(len(_SCALES), 4, *tiles.shape[2:]))

        energy = quarters(self.energy)
        # Each quarter's own normalised cross-correlation, as often as it has edges.
        share = energy[..., None, None] / np.maximum(quarters(self.against), 1e-12)
        likeness = quarters(self.products) * np.sqrt(share)
        edges = np.concatenate([energy[..., None], quarters(self.place)], axis=-1)
        return Evidence(likeness.mean(0), edges.mean(0))


def _compare(
    source: Frames, result: Frames, edited: NDArray[np.bool_], scale: float
) -> tuple[Array, Array, Array, Array]:
    """Of each tile what `_Tiles` has, at one scale."""
    height, width = edited.shape
    spread = int(3 * scale)
    # What is beyond the border or was edited, both of which are unlike, reaches so far.
    border = spread + _REACH + 1
    compared = 1 - cv2.dilate(edited.astype(np.uint8), np.ones((2 * spread + 1,) * 2))
    one, other = _edges(source, scale) * compared, _edges(result, scale)
    if min(height, width) < 2 * border + _TILES:
        nothing = np.zeros((_TILES**2, _WINDOW, _WINDOW))
        return nothing, nothing, np.zeros(_TILES**2), np.zeros((_TILES**2, 2))
    rows, columns = (
        [slice(*ends) for ends in pairwise(np.linspace(border, x - border, _TILES + 1).astype(int))]
        for x in (height, width)
    )
    found = []
    for down, across in product(rows, columns):
        here = one[:, down, across].astype(np.float64)
        wide = (slice(x.start - _REACH, x.stop + _REACH) for x in (down, across))
        there = other[(slice(None), *wide)].astype(np.float64)
        energy = np.square(here).sum(0)
        y, x = np.indices(energy.shape)
        x, y = x + across.start - (width - 1) / 2, y + down.start - (height - 1) / 2
        products = _correlated(here, there)
        against = _correlated(compared[None, down, across], np.square(there).sum(0)[None])
        place = ((energy * x).sum(), (energy * y).sum())
        found.append((products, against, energy.sum(), place))
    products, against, energies, places = (np.array(x) for x in zip(*found, strict=True))
    area = height * width
    return products / area, against / area, energies / area, places / area


def _correlated(here: NDArray[np.generic], there: NDArray[np.generic]) -> Array:
    """(13, 13): the sum of products of `here` (channels, h, w) with each part of that size of
    `there` (channels, h + 12, w + 12).
    """
    size = [next_fast_len(x, real=True) for x in there.shape[1:]]
    spectrum = np.conj(rfft2(here, size)) * rfft2(there, size)
    return np.asarray(irfft2(spectrum.sum(0), size)[:_WINDOW, :_WINDOW])


def _edges(frame: Frames, scale: float) -> Picture:
    """Edges (2, h, w) as vectors of twice the angle of their direction, so that both sides of an
    edge may change places; strong ones are 1 long.
    """
    reach = np.arange(-int(4 * scale + 1), int(4 * scale + 1) + 1)
    smooth = np.exp(-np.square(reach) / (2 * scale**2))
    smooth /= smooth.sum()
    # Each derivative in units of the scale.
    kernels = (smooth, reach / scale * smooth, (np.square(reach / scale) - 1) * smooth)

    def derived(x: int, y: int) -> Picture:
        filtered = cv2.sepFilter2D(
            frame.astype(np.float32) / 255, cv2.CV_32F, kernels[x], kernels[y]
        )
        return np.asarray(filtered)

    across, down = derived(1, 0), derived(0, 1)
    twice_across, both, twice_down = derived(2, 0), derived(1, 1), derived(0, 2)
    # Between 1/3 and 1, steps and lines both have one crest.
    share = 2 / 3
    xx = np.square(across) + share * (np.square(twice_across) + np.square(both))
    yy = np.square(down) + share * (np.square(twice_down) + np.square(both))
    xy = across * down + share * both * (twice_across + twice_down)
    xx, yy, xy = (part.sum(-1) for part in (xx, yy, xy))
    energy = xx + yy
    strength = np.sqrt(energy)
    strength = strength / (strength + _FAINT)
    return np.asarray(np.stack([xx - yy, 2 * xy]) / (energy + 1e-12) * strength)


def highest(likeness: Array) -> Array | None:
    """Where a surface (13, 13) is highest, x and y; None where that is at its end, or nowhere."""
    top = np.unravel_index(likeness.argmax(), likeness.shape)
    if likeness[top] <= 0 or not all(0 < place < _WINDOW - 1 for place in top):
        return None
    start = np.array([top[1], top[0]]) - float(_REACH)
    surface = Surface(likeness)
    found = minimize(
        lambda at: (-surface.value(*at), -surface.slope(*at)),
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(x - 1, x + 1) for x in start],
        options={"ftol": 1e-9, "gtol": 1e-5},
    )
    return np.asarray(found.x)


class Surface:
    """Values at displacements in whole pixels, and between them."""

    def __init__(self, values: Array) -> None:
        steps = np.arange(-_REACH, _REACH + 1)
        self._spline = RectBivariateSpline(steps, steps, values, kx=4, ky=4)

    def value(self, x: float, y: float) -> float:
        return float(self._spline.ev(y, x))

    def slope(self, x: float, y: float) -> Array:
        """Towards x and y."""
        return np.array([self._spline.ev(y, x, dy=1), self._spline.ev(y, x, dx=1)])
