"""Measures of a clip over time, along the exact flow of the scene that it shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from tools.layout import Scene, pixel_grid
from tools.scenes import object_masks, optical_flow

_BLUR = 9  # pixels; what is left of the ground's texture is its brightness and colour


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Exact motion between the neighbouring frames of a clip, n frames in all.

    flow: (n - 1, 2, size, size) in pixels, x first; visible: (n - 1, size, size), whether the
    surface is in sight in the next frame too; ground: (n - 1, size, size), away from all objects.
    """

    flow: Tensor
    visible: Tensor
    ground: Tensor


def frame_times(count: int) -> list[float]:
    """Scene times 0 to 1 of a clip's frames."""
    return [i / max(count - 1, 1) for i in range(count)]


def find_motion(scene: Scene, count: int, size: int) -> Motion:
    times = frame_times(count)
    flows, visible = zip(
        *(optical_flow(scene, t0, t1, size) for t0, t1 in pairwise(times)),
        strict=True,
    )
    objects = torch.stack([object_masks(scene, size, time=t).sum(0) for t in times])
    reach = 2 * _BLUR + 1
    # Far enough that neither a frame's window nor the next one's holds a part of an object.
    near = functional.max_pool2d(torch.maximum(objects[:-1], objects[1:]), reach, 1, _BLUR)
    return Motion(flow=torch.stack(flows), visible=torch.stack(visible), ground=near < 0.01)


def warp_back(frames: Tensor, flow: Tensor) -> Tensor:
    """The next frames as seen from the frames before: (n, c, size, size), bilinear."""
    size = frames.shape[-1]
    grid = pixel_grid(size, frames.device) + flow.movedim(1, -1) * (2 / size)
    return functional.grid_sample(frames, grid, align_corners=False, padding_mode="border")


def _masked_mean(values: Tensor, mask: Tensor) -> float:
    return float((values * mask).sum() / mask.sum().clamp(min=1))


def warp_error(frames: Tensor, motion: Motion) -> float:
    """Mean squared change of what stays in sight, along the motion (Lai et al. 2018, section 5).

    frames: (n, 3, size, size) in [0, 1].
    """
    change = (warp_back(frames[1:], motion.flow) - frames[:-1]).square().mean(1)
    return _masked_mean(change, motion.visible)


def ground_flicker(frames: Tensor, motion: Motion) -> float:
    """Root mean squared change of the ground's brightness and colour from frame to frame.

    frames: (n, 3, size, size) in [0, 1]. Measured in windows of 9 pixels along the motion.
    """
    blurred = functional.avg_pool2d(frames, _BLUR, 1, _BLUR // 2, count_include_pad=False)
    change = (warp_back(blurred[1:], motion.flow) - blurred[:-1]).square().mean(1)
    return math.sqrt(_masked_mean(change, motion.visible & motion.ground))
