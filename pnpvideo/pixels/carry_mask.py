"""A mask of a clip's first frame, carried along the clip's motion."""

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Frames
from pnpvideo.pixels.flow import find_flow
from pnpvideo.pixels.mask import Weights, cut_out

Places = NDArray[np.float32]
"""Of each pixel, where it comes from: (height, width, 2), x first."""

# A pixel whose colour differs so much from that of the place it should come from, around it, shows
# something else.
_UNLIKE = 30
_AROUND = (3, 3)
# How near to the mask such a pixel is decided anew.
_NEAR = np.ones((25, 25))


def carry_mask(
    mask: Weights, batches: Iterable[Frames], scenes: Sequence[range]
) -> Iterator[Weights]:
    """The mask (1, height, width) of each frame of a clip, one by one.

    mask: of the first frame, (height, width). batches: the clip's frames, uint8 (n, height, width,
    3). The places in the first frame that later frames show are composed from flow to flow, and
    the mask is looked up once, so that its edge stays sharp. Where the colours say that the flow
    was wrong, as at what was hidden before, GrabCut decides (Rother et al. 2004), from the mask
    carried by the last step alone. Behind a cut the mask is empty.
    """
    height, width = mask.shape
    here = np.dstack(np.meshgrid(np.arange(width), np.arange(height))).astype(np.float32)
    places, carried = here, mask
    first = last = None
    for number, frame in enumerate(frame for frames in batches for frame in frames):
        if first is None or last is None:
            first = frame
        elif number < scenes[0].stop:
            before = here + find_flow(frame, last, width, height)
            places = _look_up(places, before)
            unsure = _distance(_look_up(first, places), frame) > _UNLIKE
            carried = _decide(
                frame, _look_up(mask, places), unsure, _look_up(carried, before)
            ).astype(np.uint8)
        else:
            carried = np.zeros_like(mask)
        last = frame
        yield carried[np.newaxis]


def _decide(
    frame: Frames,
    carried: NDArray[np.float32],
    unsure: NDArray[np.bool_],
    likely: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The carried mask, but where it is unsure what the frame's colours say, likely ones first."""
    inside = carried > 127
    near = cv2.dilate((inside | (likely > 127)).astype(np.uint8), _NEAR) > 0
    unsure = unsure & near
    known = near & ~unsure
    if not unsure.any() or not inside[known].any() or inside[known].all():
        return carried
    rows, columns = (np.nonzero(near.any(axis))[0] for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    thought = np.where(unsure, likely > 127, inside)
    chosen = np.zeros_like(inside)
    chosen[box] = cut_out(frame[box], thought[box], ~unsure[box], iterations=1)
    return np.where(unsure, 255 * chosen, carried).astype(np.float32)


def _look_up(values: NDArray[np.generic], places: Places) -> NDArray[np.float32]:
    """Values at places; 0 of a mask outside."""
    edge = cv2.BORDER_REPLICATE if values.ndim == 3 else cv2.BORDER_CONSTANT
    found = cv2.remap(values, places, None, cv2.INTER_LINEAR, borderMode=edge)
    return np.asarray(found, np.float32)


def _distance(one: NDArray[np.float32], other: Frames) -> NDArray[np.float32]:
    """How much the colours of two pictures differ around each pixel."""
    squares = np.square(one - other).mean(-1)
    return np.asarray(np.sqrt(cv2.blur(squares, _AROUND)))
