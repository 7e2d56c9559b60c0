"""Naive references of solvers and velocity methods, to which the tests compare the package.

Written from the equations and importing nothing of `pnpvideo`. One piece and one text at a time. A
network is a function of (latents, timestep, text) that returns its own kind of output, and a level
is (a, b): latents are a clean + b noise.

    Uni-Inv, Uni-Edit   Jiao et al. 2025, "UniEdit-Flow"
    midpoint            Wang et al. 2024, "Taming rectified flow for inversion and editing"
    FireFlow            Deng et al. 2024
    FlowEdit            Kulikov et al. 2024
    FlowAlign           Kim et al. 2025
    SteerFlow           2026, arXiv 2604.01715
    residuals           "DirectEdit"

Shapes: latents (c, h, w), float64.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

Net = Callable[[Tensor, float, Any], Tensor]
Pair = tuple[float, float]


def parts(x: Tensor, out: Tensor, level: Pair, kind: str) -> tuple[Tensor, Tensor]:
    """Clean and noise by solving the two equations that x and the output are."""
    a, b = level
    if kind == "epsilon":
        rows = [[a, b], [0.0, 1.0]]
    elif kind == "v_prediction":
        rows = [[a, b], [-b, a]]
    elif kind == "flow":
        rows = [[a, b], [-1.0, 1.0]]
    else:
        raise ValueError(kind)
    matrix = torch.tensor(rows, dtype=torch.float64)
    both = torch.linalg.solve(matrix, torch.stack([x.flatten(), out.flatten()]))
    return both[0].view_as(x), both[1].view_as(x)


def along(x: Tensor, out: Tensor, level: Pair, kind: str) -> Tensor:
    clean, noise = parts(x, out, level, kind)
    return noise - clean


def s_of(level: Pair) -> float:
    return level[1] / (level[0] + level[1])


def go(x: Tensor, v: Tensor, start: Pair, end: Pair) -> Tensor:
    """Euler in x / (a + b)."""
    u = x / (start[0] + start[1])
    return (end[0] + end[1]) * (u + (s_of(end) - s_of(start)) * v)


def step(x: Tensor, out: Tensor, start: Pair, end: Pair, kind: str) -> Tensor:
    """DDIM: the clean latents and the noise at another level."""
    clean, noise = parts(x, out, start, kind)
    return end[0] * clean + end[1] * noise


def unstep(y: Tensor, out: Tensor, start: Pair, end: Pair, kind: str) -> Tensor:
    """The x at `start` that `step` takes to y at `end`, from y = A x + B out."""
    one = torch.ones(1, dtype=torch.float64)
    a = step(one, 0 * one, start, end, kind)
    b = step(0 * one, one, start, end, kind)
    return (y - b * out) / a


class Path:
    """Timesteps and levels from noise to clean, and the middles of its steps."""

    def __init__(
        self, told: Sequence[float], levels: Sequence[Pair], middles: Sequence[tuple[float, Pair]],
        end: float, kind: str,
    ) -> None:  # fmt: skip
        self.told, self.levels, self.middles = list(told), list(levels), list(middles)
        self.end, self.kind = end, kind
        self.steps = len(self.told)


def invert(net: Net, path: Path, x0: Tensor, text: Any, solver: str, exact: bool) -> list[Tensor]:
    """z at every level, noisiest first."""
    kind, z, found, last = path.kind, x0, [x0], None
    for i in reversed(range(path.steps)):
        here, there = path.levels[i + 1], path.levels[i]
        if solver == "ddim":
            out = net(z, path.told[i], text)
            z = unstep(z, out, there, here, kind) if exact else step(z, out, here, there, kind)
        elif solver == "lookahead":
            if last is None and not exact:
                last = net(z, path.end, text)
            seen = z if last is None else step(z, last, here, there, kind)
            last = net(seen, path.told[i], text)
            z = unstep(z, last, there, here, kind)
        else:
            told = path.told[i + 1] if i + 1 < path.steps else path.end
            if solver == "midpoint" or last is None:
                last = along(z, net(z, told, text), here, kind)
            middle, level = path.middles[i]
            half = go(z, last, here, level)
            last = along(half, net(half, middle, text), level, kind)
            z = go(z, last, here, there)
        found.insert(0, z)
    return found


def asked(path: Path, z: Sequence[Tensor], i: int, solver: str) -> Tensor:
    """Where the inversion evaluated the network on its way to level i."""
    if solver == "ddim" or i == path.steps - 1:
        return z[i + 1]
    # The noise and the clean latents of the straight line through the two levels after it.
    (a1, b1), (a2, b2) = path.levels[i + 1], path.levels[i + 2]
    matrix = torch.tensor([[a1, b1], [a2, b2]], dtype=torch.float64)
    both = torch.linalg.solve(matrix, torch.stack([z[i + 1].flatten(), z[i + 2].flatten()]))
    a, b = path.levels[i]
    return (a * both[0] + b * both[1]).view_as(z[i])


def of_tokens(x: Tensor, side: int, value: Callable[[Tensor], Tensor]) -> Tensor:
    """A value of each token, a square of so many latents a side, at all its places: (h, w)."""
    result = torch.empty_like(x[0])
    for i in range(0, x.shape[1], side):
        for j in range(0, x.shape[2], side):
            result[i : i + side, j : j + side] = value(x[:, i : i + side, j : j + side])
    return result


def guided(
    net: Net, x: Tensor, told: float, text: Any, nothing: Any, w: float, side: int = 0
) -> Tensor:
    """side: of tokens that keep the norm that they have without guidance; 0: none do."""
    out = net(x, told, text)
    if w == 1:
        return out
    empty = net(x, told, nothing)
    both = empty + w * (out - empty)
    if side == 0:
        return both
    return both * of_tokens(out, side, torch.norm) / of_tokens(both, side, torch.norm)


def edit(
    net: Net, path: Path, z: Sequence[Tensor], texts: dict[str, Any], method: str,
    *, first: int, scale: float | Callable[[float], float], source_scale: float = 1.0,
    zeta: float = 0.0, gamma: float = 0.0, noises: Sequence[Tensor] = (),
    shift: str | None = None, boost: float = 0.0, kept: int = 0, packed: int = 0,
) -> list[Tensor]:  # fmt: skip
    """The result after every step.

    scale: the guidance scale, perhaps by timestep. shift: the solver whose residuals are added, if
    any. boost: of a clip (c, frames, h, w), FlowAnchor's gamma. kept: the side of tokens that keep
    their norm under guidance; 0: none do. packed: the side of those that Uni-Edit has a mask for;
    0: each latent has one.
    """
    kind, found = path.kind, []
    of_clean = method in ("flowedit", "flowalign")
    x = z[-1] if of_clean else z[first]
    for i in range(first, path.steps):
        start, end, told = path.levels[i], path.levels[i + 1], path.told[i]
        s, s1, size = s_of(start), s_of(end), start[0] + start[1]
        h, end_size = s1 - s, end[0] + end[1]
        w = scale(told) if callable(scale) else scale
        off = 0 * x if shift is None else asked(path, z, i, shift) - z[i]

        v = partial(_velocity, net, texts, off, told, start, kind, kept)
        if of_clean:
            noise, x0 = noises[i - first], z[-1]
            q = (1 - s) * x0 + s * noise
            p = x + q - x0
            if method == "flowedit":
                d = v(size * p, "target", w) - v(size * q, "source", source_scale)
                x = x + h * longer(d, boost)
            else:
                v_q, v_p = v(size * q, "source"), v(size * p, "source")
                v_p = v_p + w * (v(size * p, "target") - v_p)
                x = x + h * longer(v_p - v_q, boost) + zeta * ((q - s * v_q) - (p - s * v_p))
        elif method == "uniedit":
            v_s, v_t = v(x, "source"), v(x, "target")
            d = v_t - v_s
            m = of_tokens(d, packed, torch.mean) if packed else d.mean(0)
            m = (m - m.min()) / (m.max() - m.min() + 1e-7)
            x = go(x, m * v_t + (1 - m) * v_s + w * (1 + m) * d, start, end)
        elif method == "steerflow":
            v_s = (z[i + 1] / end_size - z[i] / size) / h
            v_t, plain = v(x, "target", w), v(x, "target")
            cosine = (v_t * v_s).sum() / (v_t.norm() * v_s.norm())
            r = (plain - v_s).square().sum(0).sqrt()
            low, high = (quantile(r, share) for share in (0.05, 0.95))
            m = closed(1 / (1 + torch.exp(-15 * ((r - low) / (high - low + 1e-7) - 0.5))))
            x = go(x, v_s + m * (1 - s1**gamma) * cosine * (v_t - v_s), start, end)
        else:  # The target's own velocity, without injection.
            x = step(x, guided(net, x + off, told, texts["target"], texts["negative"], w),
                     start, end, kind)  # fmt: skip
        found.append(x)
    return found


def longer(d: Tensor, boost: float) -> Tensor:
    """FlowAnchor's length-aware strength of a difference of velocities."""
    if boost == 0:
        return d
    m = sum(d) / len(d)
    m = (m - m.min()) / (m.max() - m.min() + 1e-7)
    return torch.stack([one * (1 + boost * math.log(d.shape[1], 21) * m) for one in d])


def _velocity(
    net: Net, texts: dict[str, Any], off: Tensor, told: float, level: Pair, kind: str, kept: int,
    at: Tensor, name: str, w: float = 1.0,
) -> Tensor:  # fmt: skip
    nothing = texts["negative"] if name == "target" else texts["empty"]
    return along(at, guided(net, at + off, told, texts[name], nothing, w, kept), level, kind)


def sample_by_middles(net: Net, path: Path, x: Tensor, text: Any, solver: str) -> list[Tensor]:
    """The way back of midpoint and FireFlow, after every step."""
    found, last = [], None
    for i in range(path.steps):
        start, end, (told, level) = path.levels[i], path.levels[i + 1], path.middles[i]
        if solver == "midpoint" or last is None:
            last = along(x, net(x, path.told[i], text), start, path.kind)
        half = go(x, last, start, level)
        last = along(half, net(half, told, text), level, path.kind)
        x = go(x, last, start, end)
        found.append(x)
    return found


def quantile(x: Tensor, share: float) -> Tensor:
    """Between the two nearest of the sorted values."""
    values = sorted(x.flatten().tolist())
    place = share * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    found = values[low] + (place - low) * (values[high] - values[low])
    return torch.tensor(found, dtype=torch.float64)


def closed(mask: Tensor) -> Tensor:
    """The smallest of the neighbours' largest, of squares of 5; what is outside does not count.

    Of a clip, frame by frame.
    """
    if mask.ndim == 3:
        return torch.stack([closed(frame) for frame in mask])

    def each(x: Tensor, choose: Callable[..., Any]) -> Tensor:
        height, width = x.shape
        result = torch.empty_like(x)
        for i in range(height):
            for j in range(width):
                near = x[max(i - 2, 0) : i + 3, max(j - 2, 0) : j + 3]
                result[i, j] = choose(near.flatten().tolist())
        return result

    return each(each(mask, max), min)
