"""Endless textures of grounds and materials for the procedural world, made once from fixed seeds.

A texture is a tile (6, N, N) that repeats without a seam: red, green, blue, slope along x, slope
along y, and ink (how dark a pen would draw the ground there). Material tiles hold a tone in the
colour channels, to be multiplied with the object's colour.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

TEXELS = 512


def _noise(seed: int, low: float, high: float, power: float = 0.0, stretch: float = 1.0) -> Tensor:
    """Seamless noise (N, N), zero mean and unit deviation, of `low` to `high` waves a tile.

    `power` > 0 weakens fine waves; `stretch` > 1 draws it out along y.
    """
    white = torch.randn(TEXELS, TEXELS, generator=Generator().manual_seed(seed))
    y = torch.fft.fftfreq(TEXELS)[:, None] * TEXELS * stretch
    x = torch.fft.rfftfreq(TEXELS)[None] * TEXELS
    waves = torch.hypot(x, y)
    keep = torch.sigmoid((waves - low) / (0.1 * low)) * torch.sigmoid((high - waves) / (0.1 * high))
    field = torch.fft.irfft2(torch.fft.rfft2(white) * keep / waves.clamp(min=1) ** power)
    scaled: Tensor = (field - field.mean()) / field.std()
    return scaled


def _colour(red: float, green: float, blue: float) -> Tensor:
    return torch.tensor((red, green, blue))[:, None, None]


def _slopes(height: Tensor) -> Tensor:
    """Central differences (2, N, N) of a seamless height (N, N)."""
    across = (height.roll(-1, 1) - height.roll(1, 1)) / 2
    down = (height.roll(-1, 0) - height.roll(1, 0)) / 2
    return torch.stack((across, down))


def _step(value: Tensor, edge: float, width: float) -> Tensor:
    return ((value - edge) / width).clamp(0, 1)


def _tile(albedo: Tensor, height: Tensor, ink: Tensor) -> Tensor:
    return torch.cat((albedo, _slopes(height), ink[None]))


def _lattice() -> tuple[Tensor, Tensor]:
    """Texel places (N, N) from 0 to 1: x and y."""
    line = (torch.arange(TEXELS) + 0.5) / TEXELS
    x, y = torch.meshgrid(line, line, indexing="xy")
    return x, y


def _cells(seed: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Seamless Voronoi cells: distances to the nearest and second seed, the cell's random tone."""
    generator = Generator().manual_seed(seed)
    # One seed in each square of a lattice: stones of like size.
    row, column = torch.meshgrid(torch.arange(count), torch.arange(count), indexing="ij")
    seeds = (
        torch.stack((column, row), -1)
        + 0.15
        + 0.7 * torch.rand(count, count, 2, generator=generator)
    )
    tones = torch.rand(count, count, generator=generator)
    place = torch.stack(_lattice(), -1) * count
    cell = place.floor().long()
    distances, values = [], []
    for dy in (-2, -1, 0, 1, 2):
        for dx in (-2, -1, 0, 1, 2):
            near = cell + torch.tensor((dx, dy))
            wrapped = near.remainder(count)
            seed_place = seeds[wrapped[..., 1], wrapped[..., 0]] + (near - wrapped)
            distances.append((place - seed_place).norm(dim=-1))
            values.append(tones[wrapped[..., 1], wrapped[..., 0]])
    nearest, index = torch.stack(distances).topk(2, dim=0, largest=False)
    return nearest[0], nearest[1], torch.stack(values).gather(0, index[:1])[0]


def _sand() -> Tensor:
    _, y = _lattice()
    ripples = torch.sin(2 * math.pi * 11 * y + 1.5 * _noise(1, 1, 5, 1.0))
    grain = _noise(2, 20, 110)
    tone = 1 + 0.05 * _noise(3, 1, 8, 1.0) + 0.05 * grain
    dots = _step(_noise(4, 20, 60), 2.2, 0.5)
    return _tile(_colour(0.90, 0.77, 0.53) * tone, 1.6 * ripples + 0.35 * grain, dots)


def _grass() -> Tensor:
    blades = _noise(5, 12, 110, 0.5, stretch=0.3)
    tufts = _noise(6, 2, 12, 0.6)
    mix = (0.5 + 0.22 * blades + 0.14 * tufts).clamp(0, 1)
    albedo = _colour(0.10, 0.30, 0.06) * (1 - mix) + _colour(0.50, 0.76, 0.24) * mix
    strokes = _step(_noise(7, 12, 50, 0.3, stretch=0.3), 1.9, 0.5)
    return _tile(albedo, 0.8 * blades, strokes)


def _water() -> Tensor:
    _, y = _lattice()
    web = (1 - _noise(8, 3, 10).abs() / 0.55).clamp(0, 1) ** 2
    deep = 0.5 + 0.2 * _noise(9, 1, 6, 1.0)
    albedo = _colour(0.05, 0.36, 0.62) * (1 - deep) + _colour(0.16, 0.58, 0.80) * deep
    albedo = albedo + 0.30 * web * _colour(0.8, 1.0, 0.95)
    waves = torch.sin(2 * math.pi * 14 * y + 1.2 * _noise(10, 2, 6, 0.5)).abs()
    ink = _step(-waves, -0.22, 0.12) * _step(_noise(11, 2, 8), 0.5, 0.2)
    return _tile(albedo.clamp(0, 1), 2.2 * _noise(12, 3, 22, 0.5), ink)


def _snow() -> Tensor:
    drifts = _noise(13, 2, 14, 1.0)
    grain = _noise(14, 40, 110)
    albedo = _colour(0.93, 0.96, 1.0) * (1 + 0.012 * grain)
    return _tile(albedo, 7.0 * drifts + 0.15 * grain, torch.zeros_like(grain))


def _wooden_floor() -> Tensor:
    x, y = _lattice()
    boards = 10
    board = (x * boards).floor()
    across = (x * boards).frac()
    generator = Generator().manual_seed(15)
    tone = 0.82 + 0.3 * torch.rand(boards, generator=generator)[board.long()]
    start = torch.rand(boards, generator=generator)[board.long()]
    along = ((y + start) * 2).frac()
    gap = torch.minimum(
        torch.minimum(across, 1 - across) / boards, torch.minimum(along, 1 - along) / 2
    )
    line = 1 - _step(gap, 0.0015, 0.003)
    grain = _noise(16, 14, 110, 0.3, stretch=12)
    albedo = _colour(0.66, 0.43, 0.23) * tone * (1 + 0.13 * grain) * (1 - 0.7 * line)
    return _tile(albedo.clamp(0, 1), 0.15 * grain - 1.5 * line, line)


def _bricks() -> Tensor:
    x, y = _lattice()
    rows, columns = 16, 7
    row = (y * rows).floor()
    slot = x * columns + 0.5 * row.remainder(2)
    column = slot.floor().remainder(columns)
    across, down = slot.frac(), (y * rows).frac()
    gap = torch.minimum(
        torch.minimum(across, 1 - across) / columns, torch.minimum(down, 1 - down) / rows
    )
    brick = _step(gap, 0.003, 0.004)
    tones = 0.78 + 0.4 * torch.rand(rows, columns, generator=Generator().manual_seed(17))
    tone = tones[row.long(), column.long()] * (1 + 0.09 * _noise(18, 6, 100, 0.4))
    mortar = _colour(0.74, 0.71, 0.66) * (1 + 0.05 * _noise(19, 20, 100))
    albedo = _colour(0.66, 0.29, 0.20) * tone * brick + mortar * (1 - brick)
    line = 1 - _step(gap, 0.002, 0.003)
    return _tile(albedo.clamp(0, 1), 2.2 * brick + 0.3 * _noise(20, 10, 100, 0.4), line)


def _gravel() -> Tensor:
    first, second, tone = _cells(21, 26)
    edge = second - first
    stone = _step(edge, 0.04, 0.22)
    dome = 4.0 * (1 - (1 - (edge / 0.7).clamp(0, 1)) ** 2).sqrt()
    warm = _colour(0.66, 0.63, 0.60) * (0.62 + 0.62 * tone)
    albedo = warm * (0.35 + 0.65 * stone) * (1 + 0.05 * _noise(22, 20, 110))
    return _tile(albedo.clamp(0, 1), dome, 1 - _step(edge, 0.05, 0.1))


def _flat() -> Tensor:
    return torch.cat((torch.ones(3, TEXELS, TEXELS), torch.zeros(3, TEXELS, TEXELS)))


def _grain() -> Tensor:
    warp = 0.5 * _noise(23, 1, 6, 1.0)
    x, _ = _lattice()
    rings = torch.sin(2 * math.pi * (34 * x + 4 * warp)) * 0.6 + 0.55 * _noise(
        24, 20, 110, 0.3, stretch=9
    )
    return _tile(_colour(1.0, 0.93, 0.86) * (0.86 + 0.20 * rings), 0.6 * rings, torch.zeros_like(x))


def _brushed() -> Tensor:
    lines = _noise(25, 20, 110, 0.2, stretch=14).T
    return _tile(_colour(1.0, 1.0, 1.0) * (1 + 0.22 * lines), lines, torch.zeros_like(lines))


def _rock() -> Tensor:
    rough = _noise(26, 8, 110, 0.7)
    specks = _step(_noise(27, 25, 90), 1.0, 0.5) - _step(_noise(28, 25, 90), 1.0, 0.5)
    tone = 0.86 + 0.10 * rough + 0.22 * specks
    return _tile(_colour(1.0, 1.0, 1.0) * tone, 1.8 * rough, torch.zeros_like(rough))


_MAKERS = {
    "sand": _sand,
    "grass": _grass,
    "water": _water,
    "snow": _snow,
    "wooden floor": _wooden_floor,
    "bricks": _bricks,
    "gravel": _gravel,
    "plastic": _flat,
    "wood": _grain,
    "metal": _brushed,
    "stone": _rock,
}


def _wobble() -> Tensor:
    """Smooth shifts for hand-drawn lines: (4, N, N), two fields of x and y."""
    return torch.stack([_noise(seed, 4, 14, 0.5) for seed in (30, 31, 32, 33)])


def _pressure() -> Tensor:
    """How hard the pencil presses: (1, N, N)."""
    return _noise(34, 5, 22, 0.3)[None]


@functools.cache
def texture(name: str, device: torch.device | str) -> Tensor:
    """The tile (C, N + 1, N + 1) of a ground, a material, "wobble" or "pressure"; its last row and
    column repeat the first, for sampling across the seam.
    """
    maker = {**_MAKERS, "wobble": _wobble, "pressure": _pressure}[name]
    tile = maker()
    return torch.cat(
        (torch.cat((tile, tile[:, :1]), 1), torch.cat((tile, tile[:, :1]), 1)[..., :1]), 2
    ).to(device)


def sample(name: str, places: Tensor) -> Tensor:
    """Read the tile at places (B, H, W, 2) counted in tiles: (B, C, H, W), bilinear."""
    tile = texture(name, str(places.device))
    grid = places.remainder(1) * 2 - 1
    return functional.grid_sample(tile.expand(len(places), -1, -1, -1), grid, align_corners=True)
