"""Methods that step along a combination of velocities: pure functions of what is known at a step.

All is in the straight coordinate (see `velocity`), in which x_s = (1 - s) clean + s noise and a
velocity is noise - clean, so that they are the same for every kind of model. A step goes from s to
s', and h = s' - s is negative.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, linalg
from torch.nn import functional

from pnpvideo.options.edit_method import MethodName, consistency, steering
from pnpvideo.sampling.windows import as_clip

Place = Literal["x", "q", "p"]
"""Latents that the network is asked at; see `Moment`."""
Role = Literal["source", "target", "conditional"]
"""The text that it is asked under. "conditional": the prompt without guidance."""

Velocities = Mapping[tuple[Place, Role], Tensor]
"""(prompts, pieces, c, ...), or (1, pieces, c, ...) at a place that all prompts share."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The values that are known at a step, for some pieces.

    x: the result so far, (prompts, pieces, c, ...): at level s, or for methods that edit the clean
    latents, clean. source: the source's, (pieces, c, ...), at levels s and s', or clean twice.
    noise: the step's e, in the shape of the source's or of one piece; None if the step takes none.
    s, after: s and s'. strength: 0 to 1. scale: the guidance scale. boost: see `_boosted`; 0 for
    pieces that are not scenes. packing: the latents along a side of a token.
    """

    x: Tensor
    source: tuple[Tensor, Tensor]
    noise: Tensor | None
    s: float
    after: float
    strength: float
    scale: float
    boost: float = 0.0
    packing: int = 1

    def of_clip(self) -> "Moment":
        """Return the same for these pieces as one."""
        here, after = self.source
        return replace(
            self,
            x=as_clip(self.x),
            source=(as_clip(here), as_clip(after)),
            noise=None if self.noise is None else as_clip(self.noise),
        )

    @property
    def h(self) -> float:
        return self.after - self.s

    @property
    def q(self) -> Tensor:
        """The source's clean latents with noise: (1, pieces, c, ...)."""
        assert self.noise is not None
        clean, _ = self.source
        return ((1 - self.s) * clean + self.s * self.noise)[None]

    @property
    def p(self) -> Tensor:
        """q, moved by as much as the result so far is from the source."""
        clean, _ = self.source
        return self.q + (self.x - clean)

    def at(self, place: Place) -> Tensor:
        """Return the latents at a place."""
        return {"x": lambda: self.x, "q": lambda: self.q, "p": lambda: self.p}[place]()


@dataclass(frozen=True, kw_only=True)
class VelocityMethod:
    """A method. asks: the texts that it asks the network under, by place.

    step: returns x after the step.
    """

    asks: Mapping[Place, tuple[Role, ...]]
    step: Callable[[Moment, Velocities], Tensor]


def uniedit(moment: Moment, v: Velocities) -> Tensor:
    """Take a step of Uni-Edit (Jiao et al. 2025, "UniEdit-Flow").

    With d = v_target - v_source and m its mean over the channels, scaled to 0 to 1 over each piece:
    x + h (m v_target + (1 - m) v_source + omega (1 + m) d), omega being the guidance scale. For
    packed latents the channels are those of a token, as in the published code.
    """
    source, target = v["x", "source"], v["x", "target"]
    change = target - source
    mask = _from_0_to_1(_of_tokens(change.mean(2, keepdim=True), moment.packing))
    along = mask * target + (1 - mask) * source + moment.scale * (1 + mask) * change
    return moment.x + moment.h * along


def _from_0_to_1(mean: Tensor) -> Tensor:
    """Return the mean over the channels of a change, scaled to 0 to 1 over each piece."""
    axes = tuple(range(2, mean.ndim))
    low, high = mean.amin(axes, keepdim=True), mean.amax(axes, keepdim=True)
    return (mean - low) / (high - low + 1e-7)


def _boosted(change: Tensor, boost: float) -> Tensor:
    """Return the change of a scene, stronger where it is large, and more in a long scene.

    FlowAnchor (2026, arXiv 2604.22586), as third-party code has it: with m the mean of the change d
    over the channels, scaled to 0 to 1 over the scene, and F the number of its latents in time,
    d (1 + boost (log F / log 21) m).
    change: of scenes as one piece, (prompts, 1, c, F, h, w), or of any pieces if boost is 0.
    """
    if boost == 0:
        return change
    length = math.log(change.shape[3]) / math.log(21)
    return change * (1 + boost * length * _from_0_to_1(change.mean(2, keepdim=True)))


def _of_tokens(values: Tensor, side: int) -> Tensor:
    """Return the mean of values (..., h, w) over each token, in the same shape."""
    if side == 1:
        return values
    *others, height, width = values.shape
    cells = values.view(*others, height // side, side, width // side, side)
    return cells.mean((-3, -1), keepdim=True).expand_as(cells).reshape(values.shape)


def flowedit(moment: Moment, v: Velocities) -> Tensor:
    """Take a step of FlowEdit (Kulikov et al. 2024).

    y + h (v_target(p) - v_source(q)), with guidance in both velocities.
    """
    return moment.x + moment.h * _boosted(v["p", "target"] - v["q", "source"], moment.boost)


def flowalign(moment: Moment, v: Velocities) -> Tensor:
    """Take a step of FlowAlign (Kim et al. 2025).

    With v_p = v_source(p) + w (v_target(p) - v_source(p)), v_q = v_source(q), and w the guidance
    scale: y + h (v_p - v_q) + zeta ((q - s v_q) - (p - s v_p)). The last part draws the clean
    estimate of p towards that of q.
    """
    of_q, of_p, s = v["q", "source"], v["p", "source"], moment.s
    of_p = of_p + moment.scale * (v["p", "target"] - of_p)
    back = (moment.q - s * of_q) - (moment.p - s * of_p)
    along = _boosted(of_p - of_q, moment.boost)
    return moment.x + moment.h * along + consistency(moment.strength) * back


def steerflow(moment: Moment, v: Velocities) -> Tensor:
    """Take a step of SteerFlow (2026, arXiv 2604.01715).

    With v_s the velocity of the source's own path and c = cos(v_target, v_s) over each piece:
    x + h (v_s + M (1 - s'^gamma) c (v_target - v_s)). M is where the prompt, without guidance,
    departs from v_s (see `_departure`).
    """
    here, after = moment.source
    path, target = ((after - here) / moment.h).expand_as(moment.x), v["x", "target"]
    both = target.flatten(2), path.flatten(2)
    sizes = linalg.vector_norm(both[0], dim=2) * linalg.vector_norm(both[1], dim=2)
    cosine: Tensor = linalg.vecdot(*both) / sizes.clamp_min(1e-30)
    cosine = cosine.view(*cosine.shape, *[1] * (path.ndim - 2))
    weight = _departure(v["x", "conditional"] - path) * cosine
    weight = weight * (1 - math.pow(moment.after, steering(moment.strength)))
    return moment.x + moment.h * (path + weight * (target - path))


def _departure(change: Tensor) -> Tensor:
    """Return M, (prompts, pieces, 1, ...), from 0 to 1: where a change is large for its piece.

    The norm r over the channels, as sigmoid(15 ((r - q05) / (q95 - q05) - 0.5)) with r's quantiles,
    and closed: small gaps, up to 4 latents, are filled.
    """
    size = linalg.vector_norm(change, dim=2, keepdim=True)
    flat = size.flatten(2)
    low, high = (torch.quantile(flat, q, dim=2, keepdim=True) for q in (0.05, 0.95))
    mask = torch.sigmoid(15 * ((flat - low) / (high - low + 1e-7) - 0.5)).view(-1, *size.shape[-2:])
    wide = functional.max_pool2d(mask, 5, 1, 2)
    closed: Tensor = -functional.max_pool2d(-wide, 5, 1, 2)
    return closed.view_as(size)


METHODS: Mapping[MethodName, VelocityMethod] = {
    "uniedit": VelocityMethod(asks={"x": ("source", "target")}, step=uniedit),
    "flowedit": VelocityMethod(asks={"q": ("source",), "p": ("target",)}, step=flowedit),
    "flowalign": VelocityMethod(asks={"q": ("source",), "p": ("source", "target")}, step=flowalign),
    "steerflow": VelocityMethod(asks={"x": ("target",)}, step=steerflow),
}
"""All methods but inject, which steps along the target's own velocity."""
