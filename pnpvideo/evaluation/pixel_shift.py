"""Subpixel displacement of results from their sources, even if the two look different.

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

from pnpvideo.clips.clip import Frames, Picture
from pnpvideo.evaluation.masks import Masks
from pnpvideo.evaluation.pixel_metrics import FrameValues

Array = NDArray[np.float64]
EdgeMap = NDArray[np.float32]

_SIDE = 512
_SCALES = (1.5, 3.0)  # pixels: the first is precise, the second sees a thick line as one edge
_FAINT = 0.03  # the contrast (white is 1) at which an edge counts half as much as a strong one
_REACH = 6  # the longest displacement in pixels that is searched
_TILES = 4  # on each side
_LARGEST_ERROR = 1.0  # pixels: displacements with a larger error are NaN
_NO_EDGES = 1e-6  # mean square of rounding errors in a plain picture
_LEAST_LIKENESS = 0.2  # not reached by chance
_WINDOW = 2 * _REACH + 1


@dataclass(frozen=True)
class Evidence:
    """The evidence of pictures for a displacement, weighted by their edges; it can be added.

    likeness: (4, 13, 13), without a unit: the correlation of edges in the upper left, upper right,
    lower left and lower right quarter at displacements from -6 to 6 pixels, down and across.
    edges: (4, 3), the edge energy of each quarter, and that times the edges' mean position from the
    centre, x and y in pixels.
    """

    likeness: Array
    edges: Array

    @classmethod
    def none(cls) -> Self:
        return cls(np.zeros((4, _WINDOW, _WINDOW)), np.zeros((4, 3)))

    @classmethod
    def of_values(cls, values: Sequence[float]) -> Self:
        """Return the evidence from `values`. Raise ValueError if their number is wrong."""
        edges, likeness = np.split(np.array(values, np.float64), [12])
        return cls(likeness.reshape(4, _WINDOW, _WINDOW), edges.reshape(4, 3))

    @property
    def values(self) -> list[float]:
        """Return all numbers, as stored in a file."""
        return [float(f"{x:.6g}") for x in (*self.edges.ravel(), *self.likeness.ravel())]

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(self.likeness + other.likeness, self.edges + other.edges)


@dataclass(frozen=True, kw_only=True)
class Shifts:
    """The displacement of each frame.

    distance: pixels between result and source (n,), NaN if it cannot be determined. error: its
    standard error in pixels (n,). evidence: of all frames.
    """

    distance: FrameValues
    error: FrameValues
    evidence: Evidence


def pixel_shifts(result: Frames, source: Frames, mask: Masks | None = None) -> Shifts:
    """Measure the displacement of each result from its source, up to 6 pixels.

    Edges are found by local energy, that of first and second derivatives together, which has one
    ridge along a step as well as along a line (the boundary tensor of Koethe 2003, "Integrated edge
    and junction detection with the boundary tensor"). The displacement maximises the normalised
    cross-correlation of the edges' directions; their sign and most of their strength are ignored,
    and so are colours and light. The error is by the jackknife over the picture's tiles.

    mask: the edited part, which is not compared; if that is everything, everything is compared.
    """
    distance, errors, evidence = [], [], Evidence.none()
    scale = min(1.0, _SIDE / min(source.shape[1:3]))
    for number, (source_frame, result_frame) in enumerate(zip(source, result, strict=True)):
        edited = np.zeros(source_frame.shape[:2], np.uint8)
        if mask is not None and not mask[number].all():
            edited = mask[number].astype(np.uint8)
        tiles = _Tiles.of(
            _shrunk(scale, source_frame), _shrunk(scale, result_frame), _shrunk(scale, edited) > 0
        )
        displacement, error = tiles.displacement()
        is_certain = error <= _LARGEST_ERROR
        distance.append(float(np.hypot(*displacement)) / scale if is_certain else np.nan)
        errors.append(error / scale if is_certain else np.nan)
        evidence += tiles.evidence()
    return Shifts(distance=np.array(distance), error=np.array(errors), evidence=evidence)


def _shrunk(scale: float, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if scale == 1:
        return picture
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


@dataclass(frozen=True, kw_only=True)
class _Tiles:
    """A picture's tiles, row by row, compared with its displaced source.

    products: (scales, tiles, 13, 13), correlations of the edges' directions. against: of the same
    shape, the energy of the result's edges there. energy: (scales, tiles) of the source's edges.
    place: (scales, tiles, 2), energy times mean position from the centre, x and y in pixels.
    """

    products: Array
    against: Array
    energy: Array
    place: Array

    @classmethod
    def of(cls, source: Picture, result: Picture, edited: NDArray[np.bool_]) -> Self:
        comparisons = [_compare(source, result, edited, scale) for scale in _SCALES]
        products, against, energy, place = (np.array(x) for x in zip(*comparisons, strict=True))
        return cls(products=products, against=against, energy=energy, place=place)

    def likeness(self, chosen: Array) -> Array:
        """Return each tile's part of the normalised cross-correlation, (tiles, 13, 13).

        Their sum is that of the picture, the mean of all scales, in [-1, 1]. chosen: (tiles,) of 0
        and 1.
        """
        result_energy = np.einsum("stij,t->sij", self.against, chosen)
        energy = (self.energy @ chosen)[:, None, None]
        norm = np.sqrt(np.maximum(result_energy * energy, 1e-12))
        return np.asarray((self.products / norm[:, None]).mean(0) * chosen[:, None, None])

    def displacement(self) -> tuple[Array, float]:
        """Return the result's displacement x, y and its standard error, infinite if not found."""
        used = self.energy.sum(0) > max(_NO_EDGES, 1e-6 * self.energy.sum())
        all_used = used.astype(np.float64)
        likeness = self.likeness(all_used).sum(0)
        optimum = find_highest(likeness)
        if optimum is None or likeness.max() < _LEAST_LIKENESS or used.sum() < 2:
            return np.full(2, np.nan), np.inf
        estimates = []
        for tile in np.flatnonzero(used):
            chosen = all_used.copy()
            chosen[tile] = 0
            estimate = find_highest(self.likeness(chosen).sum(0))
            if estimate is None:
                return optimum, np.inf
            estimates.append(estimate)
        spread = np.square(np.array(estimates) - np.mean(estimates, 0)).sum()
        return optimum, float(np.sqrt(spread * (len(estimates) - 1) / len(estimates)))

    def evidence(self) -> Evidence:
        if self.energy.sum() < _NO_EDGES:
            return Evidence.none()

        def quarters(tiles: Array) -> Array:
            half = _TILES // 2
            parts = tiles.reshape(len(_SCALES), 2, half, 2, half, *tiles.shape[2:])
            return np.asarray(parts.sum((2, 4)).reshape(len(_SCALES), 4, *tiles.shape[2:]))

        energy = quarters(self.energy)
        # Each quarter's normalised cross-correlation, weighted by its edges.
        share = energy[..., None, None] / np.maximum(quarters(self.against), 1e-12)
        likeness = quarters(self.products) * np.sqrt(share)
        edges = np.concatenate([energy[..., None], quarters(self.place)], axis=-1)
        return Evidence(likeness.mean(0), edges.mean(0))


def _compare(
    source: Picture, result: Picture, edited: NDArray[np.bool_], scale: float
) -> tuple[Array, Array, Array, Array]:
    """Return the arrays of `_Tiles` at one scale."""
    height, width = edited.shape
    spread = int(3 * scale)
    # The influence of pixels beyond the border, or of edited ones, reaches this far.
    border = spread + _REACH + 1
    compared = 1 - cv2.dilate(edited.astype(np.uint8), np.ones((2 * spread + 1,) * 2))
    source_edges, result_edges = _edges(source, scale) * compared, _edges(result, scale)
    if min(height, width) < 2 * border + _TILES:
        zeros = np.zeros((_TILES**2, _WINDOW, _WINDOW))
        return zeros, zeros, np.zeros(_TILES**2), np.zeros((_TILES**2, 2))
    rows, columns = (
        [slice(*ends) for ends in pairwise(np.linspace(border, x - border, _TILES + 1).astype(int))]
        for x in (height, width)
    )
    tiles = []
    for down, across in product(rows, columns):
        tile = source_edges[:, down, across].astype(np.float64)
        widened = (slice(x.start - _REACH, x.stop + _REACH) for x in (down, across))
        surroundings = result_edges[(slice(None), *widened)].astype(np.float64)
        energy = np.square(tile).sum(0)
        y, x = np.indices(energy.shape)
        x, y = x + across.start - (width - 1) / 2, y + down.start - (height - 1) / 2
        products = _correlate(tile, surroundings)
        against = _correlate(compared[None, down, across], np.square(surroundings).sum(0)[None])
        place = ((energy * x).sum(), (energy * y).sum())
        tiles.append((products, against, energy.sum(), place))
    products, against, energies, places = (np.array(x) for x in zip(*tiles, strict=True))
    area = height * width
    return products / area, against / area, energies / area, places / area


def _correlate(tile: NDArray[np.generic], surroundings: NDArray[np.generic]) -> Array:
    """Return the correlation (13, 13) of `tile` (channels, h, w) with its surroundings.

    surroundings: (channels, h + 12, w + 12).
    """
    size = [next_fast_len(x, real=True) for x in surroundings.shape[1:]]
    spectrum = np.conj(rfft2(tile, size)) * rfft2(surroundings, size)
    return np.asarray(irfft2(spectrum.sum(0), size)[:_WINDOW, :_WINDOW])


def _edges(frame: Picture, scale: float) -> EdgeMap:
    """Return edges (2, h, w) as vectors of twice the angle of their direction.

    So an edge is the same if its two sides are swapped. Strong edges have length 1.
    """
    reach = np.arange(-int(4 * scale + 1), int(4 * scale + 1) + 1)
    smooth = np.exp(-np.square(reach) / (2 * scale**2))
    smooth /= smooth.sum()
    # Each derivative in units of the scale.
    kernels = (smooth, reach / scale * smooth, (np.square(reach / scale) - 1) * smooth)

    def derived(x: int, y: int) -> EdgeMap:
        filtered = cv2.sepFilter2D(
            frame.astype(np.float32) / 255, cv2.CV_32F, kernels[x], kernels[y]
        )
        return np.asarray(filtered)

    across, down = derived(1, 0), derived(0, 1)
    twice_across, mixed, twice_down = derived(2, 0), derived(1, 1), derived(0, 2)
    # With a weight between 1/3 and 1, steps and lines both have one ridge.
    weight = 2 / 3
    xx = np.square(across) + weight * (np.square(twice_across) + np.square(mixed))
    yy = np.square(down) + weight * (np.square(twice_down) + np.square(mixed))
    xy = across * down + weight * mixed * (twice_across + twice_down)
    xx, yy, xy = (part.sum(-1) for part in (xx, yy, xy))
    energy = xx + yy
    strength = np.sqrt(energy)
    strength = strength / (strength + _FAINT)
    return np.asarray(np.stack([xx - yy, 2 * xy]) / (energy + 1e-12) * strength)


def find_highest(likeness: Array) -> Array | None:
    """Return x, y in pixels of a surface's (13, 13) maximum; None at the border or if <= 0."""
    top = np.unravel_index(likeness.argmax(), likeness.shape)
    if likeness[top] <= 0 or not all(0 < index < _WINDOW - 1 for index in top):
        return None
    start = np.array([top[1], top[0]]) - float(_REACH)
    surface = Surface(likeness)
    optimum = minimize(
        lambda position: (-surface.value(*position), -surface.slope(*position)),
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(x - 1, x + 1) for x in start],
        options={"ftol": 1e-9, "gtol": 1e-5},
    )
    return np.asarray(optimum.x)


class Surface:
    """Values at displacements in whole pixels, and between them."""

    def __init__(self, values: Array) -> None:
        steps = np.arange(-_REACH, _REACH + 1)
        self._spline = RectBivariateSpline(steps, steps, values, kx=4, ky=4)

    def value(self, x: float, y: float) -> float:
        return float(self._spline.ev(y, x))

    def slope(self, x: float, y: float) -> Array:
        """Return the derivatives by x and y."""
        return np.array([self._spline.ev(y, x, dy=1), self._spline.ev(y, x, dx=1)])
