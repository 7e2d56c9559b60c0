"""The exact motion of a clip of a moving scene."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from tools.train.appearance import Pixels
from tools.train.artwork import Artwork
from tools.train.layout import Scene
from tools.train.scenes import object_masks, optical_flow

_NEAR = 9  # pixels around the objects in which the ground is not measured


@dataclass(frozen=True, kw_only=True)
class Motion:
    """The motion between the neighbouring frames of a clip of n frames.

    flow: (n - 1, 2, size, size) in pixels, x first; visible: (n - 1, size, size), whether the
    surface is visible in the next frame too; ground: (n - 1, size, size), away from all objects.
    """

    flow: Pixels
    visible: npt.NDArray[np.bool_]
    ground: npt.NDArray[np.bool_]


def frame_times(count: int) -> list[float]:
    """Return the scene times of a clip's frames, 0 to 1."""
    return [i / max(count - 1, 1) for i in range(count)]


def find_motion(scene: Scene, artwork: Artwork, count: int, size: int) -> Motion:
    times = frame_times(count)
    flows, visible = zip(
        *(optical_flow(scene, artwork, t0, t1, size=size) for t0, t1 in pairwise(times)),
        strict=True,
    )
    reach = np.ones((2 * _NEAR + 1, 2 * _NEAR + 1), np.uint8)
    # Far enough that neither a frame's window nor the next one's contains a part of an object.
    near = np.stack(
        [
            cv2.dilate(object_masks(scene, artwork, size=size, time=time).sum(0), reach) > 0.01
            for time in times
        ]
    )
    return Motion(flow=np.stack(flows), visible=np.stack(visible), ground=~(near[:-1] | near[1:]))
