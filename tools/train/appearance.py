"""Appearances of things other than their natural one: colours, materials, and a scene's light.

An appearance maps the brightness of a thing's picture, stretched to its range, through a palette,
so that shading, eyes and outlines stay. Colours are (red, green, blue) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tools.train.artwork import Layer

Pixels = npt.NDArray[np.float32]
Colour = tuple[float, float, float]

_LUMA = np.array((0.299, 0.587, 0.114), np.float32)


@dataclass(frozen=True, kw_only=True)
class Palette:
    """Colours from the darkest to the brightest part.

    shine: how strongly reflections band the brightness (metals); veins: strength of the streaks of
    `vein` (marble, jade, chocolate's none).
    """

    ramp: Sequence[Colour]
    shine: float = 0.0
    veins: float = 0.0
    vein: Colour = (0.5, 0.5, 0.5)


def _plain(dark: Colour, base: Colour, bright: Colour) -> Palette:
    return Palette(ramp=(dark, base, base, bright))


COLOURS: dict[str, Palette] = {
    "red": _plain((0.30, 0.02, 0.04), (0.86, 0.13, 0.12), (1.00, 0.62, 0.56)),
    "orange": _plain((0.40, 0.14, 0.00), (0.96, 0.52, 0.08), (1.00, 0.82, 0.55)),
    "yellow": _plain((0.42, 0.28, 0.00), (0.97, 0.82, 0.12), (1.00, 0.96, 0.68)),
    "green": _plain((0.02, 0.20, 0.05), (0.20, 0.66, 0.22), (0.70, 0.93, 0.62)),
    "turquoise": _plain((0.00, 0.22, 0.24), (0.12, 0.72, 0.72), (0.66, 0.96, 0.94)),
    "blue": _plain((0.03, 0.06, 0.32), (0.15, 0.38, 0.90), (0.62, 0.80, 1.00)),
    "purple": _plain((0.16, 0.03, 0.26), (0.52, 0.22, 0.76), (0.84, 0.68, 0.97)),
    "pink": _plain((0.40, 0.06, 0.24), (0.96, 0.46, 0.70), (1.00, 0.82, 0.91)),
}
MATERIALS: dict[str, Palette] = {
    "gold": Palette(
        ramp=((0.22, 0.10, 0.01), (0.62, 0.38, 0.05), (0.93, 0.72, 0.20), (1.00, 0.96, 0.72)),
        shine=0.22,
    ),
    "silver": Palette(
        ramp=((0.10, 0.11, 0.13), (0.42, 0.45, 0.49), (0.78, 0.80, 0.84), (1.00, 1.00, 1.00)),
        shine=0.26,
    ),
    "bronze": Palette(
        ramp=((0.12, 0.06, 0.03), (0.40, 0.22, 0.10), (0.70, 0.44, 0.24), (0.96, 0.80, 0.60)),
        shine=0.20,
    ),
    "chocolate": Palette(
        ramp=((0.10, 0.04, 0.02), (0.25, 0.12, 0.07), (0.37, 0.20, 0.12), (0.58, 0.38, 0.26)),
    ),
    "jade": Palette(
        ramp=((0.04, 0.20, 0.13), (0.16, 0.47, 0.33), (0.38, 0.70, 0.52), (0.80, 0.95, 0.84)),
        veins=0.35,
        vein=(0.70, 0.88, 0.74),
    ),
    "ice": Palette(
        ramp=((0.30, 0.52, 0.70), (0.55, 0.78, 0.92), (0.80, 0.93, 0.99), (1.00, 1.00, 1.00)),
        shine=0.10,
    ),
    "marble": Palette(
        ramp=((0.45, 0.45, 0.48), (0.76, 0.75, 0.75), (0.92, 0.91, 0.90), (1.00, 1.00, 1.00)),
        veins=0.75,
        vein=(0.42, 0.42, 0.46),
    ),
    "clay": Palette(
        ramp=((0.32, 0.14, 0.09), (0.62, 0.32, 0.22), (0.78, 0.45, 0.32), (0.92, 0.66, 0.52)),
    ),
}
PALETTES = COLOURS | MATERIALS

LIGHTS: dict[str, tuple[Colour, Colour]] = {
    "day": ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
    "sunset": ((1.00, 0.68, 0.45), (0.06, 0.01, 0.02)),
    "night": ((0.40, 0.48, 0.78), (0.01, 0.02, 0.07)),
}
"""The factors and offsets of each light for a picture."""


def recoloured(layer: Layer, appearance: str) -> Layer:
    """Return the layer of a thing in a colour or a material of `PALETTES`."""
    palette = PALETTES[appearance]
    opacity = layer[..., 3:].astype(np.float32) / 255
    brightness = layer[..., :3].astype(np.float32) @ _LUMA / 255
    shown = opacity[..., 0] > 0.5
    level = brightness / np.maximum(opacity[..., 0], 1e-3)
    low, high = np.percentile(level[shown], (4, 96)) if shown.any() else (0.0, 1.0)
    # A plain white thing keeps its soft shades: the range is not stretched without limit.
    middle, half = (low + high) / 2, max((high - low) / 2, 0.2)
    share = np.clip(0.5 + 0.45 * (level - middle) / half, 0, 1)
    if palette.shine:
        share = np.clip(share + palette.shine * np.sin(9.5 * share - 0.6), 0, 1)
    stops = np.linspace(0, 1, len(palette.ramp))
    ramp = np.array(palette.ramp, np.float32)
    colours = np.stack([np.interp(share, stops, ramp[:, i]) for i in range(3)], -1)
    if palette.veins:
        streaks = palette.veins * _veins(len(layer))[..., None]
        colours = colours + streaks * (np.array(palette.vein) - colours)
    layers = np.concatenate((colours * opacity, opacity), -1)
    return (255 * layers).round().astype(np.uint8)


def _veins(size: int) -> Pixels:
    """Return streaks in [0, 1], the same for all things, at the zero crossings of smooth noise."""
    noise = smooth_noise(size, 5, seed=11) + 0.5 * smooth_noise(size, 11, seed=12)
    return np.exp(-((noise / 0.16) ** 2)).astype(np.float32)


def smooth_noise(size: int, cells: int, *, seed: int) -> Pixels:
    """Return noise around 0 (size, size) with about `cells` waves on a side."""
    values = np.random.default_rng(seed).standard_normal((cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(values, (size, size), interpolation=cv2.INTER_CUBIC))


def lit(picture: Pixels, light: str) -> Pixels:
    """Return a picture (H, W, 3) in [0, 1] under a light."""
    factor, offset = (np.array(values, np.float32) for values in LIGHTS[light])
    return picture * factor + offset
