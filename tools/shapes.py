"""The shapes of the procedural world as signed distances (after Inigo Quilez's 2D functions).

Every function takes places (..., 2), x to the right and y down, in units of the shape's radius,
and returns (...) the distance to the outline, negative inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def _length(p: Tensor) -> Tensor:
    return torch.hypot(p[..., 0], p[..., 1])


def _circle(p: Tensor) -> Tensor:
    return _length(p) - 0.84


def _square(p: Tensor) -> Tensor:
    q = p.abs() - 0.62
    return _length(q.clamp(min=0)) + q.amax(-1).clamp(max=0) - 0.08


def _regular(p: Tensor, sides: int, apothem: float) -> Tensor:
    """Regular polygon, one side down."""
    step = 2 * math.pi / sides
    angle = torch.atan2(p[..., 0], p[..., 1])
    angle = (angle + step / 2).remainder(step) - step / 2
    radius = _length(p)
    u, v = radius * angle.cos() - apothem, radius * angle.sin()
    beyond = (v.abs() - apothem * math.tan(step / 2)).clamp(min=0)
    return torch.where(beyond > 0, torch.hypot(u, beyond), u) - 0.06


def _triangle(p: Tensor) -> Tensor:
    return _regular(p - p.new_tensor((0.0, 0.14)), 3, 0.46)


def _hexagon(p: Tensor) -> Tensor:
    return _regular(p, 6, 0.74)


def _segment(p: Tensor, a: tuple[float, float], b: tuple[float, float]) -> Tensor:
    """Distance to the segment from a to b."""
    origin, way = p.new_tensor(a), p.new_tensor((b[0] - a[0], b[1] - a[1]))
    along = (((p - origin) @ way) / (way @ way)).clamp(0, 1)
    return _length(p - origin - along[..., None] * way)


def _star(p: Tensor) -> Tensor:
    step = 2 * math.pi / 5
    angle = torch.atan2(p[..., 0], -p[..., 1])
    angle = ((angle + step / 2).remainder(step) - step / 2).abs()
    radius = _length(p)
    q = torch.stack((radius * angle.sin(), radius * angle.cos()), -1)
    inner = (0.42 * math.sin(step / 2), 0.42 * math.cos(step / 2))
    side = q[..., 0] * (0.93 - inner[1]) + (q[..., 1] - 0.93) * inner[0]
    return _segment(q, (0.0, 0.93), inner) * side.sign() - 0.05


def _heart(p: Tensor) -> Tensor:
    x, y = p[..., 0].abs() / 1.5, (0.75 - p[..., 1]) / 1.5
    upper = torch.hypot(x - 0.25, y - 0.75) - math.sqrt(2) / 4
    corner = 0.5 * (x + y).clamp(min=0)
    lower = torch.minimum(torch.hypot(x, y - 1), torch.hypot(x - corner, y - corner))
    return 1.5 * torch.where(x + y > 1, upper, lower * (x - y).sign()) - 0.02


def _moon(p: Tensor) -> Tensor:
    bite = _length(p - p.new_tensor((0.42, -0.1))) - 0.66
    return torch.maximum(_length(p) - 0.86, -bite) - 0.03


def _cross(p: Tensor) -> Tensor:
    q = p.abs()
    q = torch.stack((q.amax(-1), q.amin(-1)), -1) - p.new_tensor((0.82, 0.24))
    k = q.amax(-1)
    w = torch.where((k > 0)[..., None], q, torch.stack((0.24 - q[..., 0] - 0.82, -k), -1))
    return k.sign() * _length(w.clamp(min=0)) - 0.05


def _ring(p: Tensor) -> Tensor:
    return (_length(p) - 0.62).abs() - 0.23


def _drop(p: Tensor) -> Tensor:
    """Convex hull of a circle and a point above it, rounded."""
    x, y = p[..., 0].abs(), 0.28 - p[..., 1]
    big, small, height = 0.56, 0.05, 1.12
    b = (big - small) / height
    a = math.sqrt(1 - b * b)
    k = a * y - b * x
    body = torch.hypot(x, y) - big
    tip = torch.hypot(x, y - height) - small
    return torch.where(k < 0, body, torch.where(k > a * height, tip, a * x + b * y - big))


def _flower(p: Tensor) -> Tensor:
    step = 2 * math.pi / 6
    angle = torch.atan2(p[..., 0], -p[..., 1])
    angle = (angle + step / 2).remainder(step) - step / 2
    radius = _length(p)
    petal = torch.hypot(radius * angle.sin(), radius * angle.cos() - 0.58) - 0.31
    return torch.minimum(petal, radius - 0.45)


def _leaf(p: Tensor) -> Tensor:
    x, y = p[..., 0].abs(), p[..., 1].abs()
    radius, off = 1.07, 0.58
    b = math.sqrt(radius * radius - off * off)
    tip = (y - b) * off > x * b
    side = torch.hypot(x + off, y) - radius
    return torch.where(tip, torch.hypot(x, y - b), side) - 0.03


SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "moon": _moon,
    "cross": _cross,
    "ring": _ring,
    "hexagon": _hexagon,
    "drop": _drop,
    "flower": _flower,
    "leaf": _leaf,
}
