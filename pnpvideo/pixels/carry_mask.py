"""Propagation of a mask of the first frame along a clip's motion."""

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Frames, Picture
from pnpvideo.pixels.flow import find_flow
from pnpvideo.pixels.mask import Weights, cut_out

Coordinates = NDArray[np.float32]
"""The coordinates that each pixel comes from: (height, width, 2), x first."""

# A pixel whose surroundings differ by more than this (0 to 255) from where the flow says they come
# from shows something else.
_COLOUR_LIMIT = 30
_WINDOW = (3, 3)
# The neighbourhood of the mask in which such pixels are segmented again.
_NEAR = np.ones((25, 25))


def carry_mask(
    mask: Weights, batches: Iterable[Frames], scenes: Sequence[range]
) -> Iterator[Weights]:
    """Yield the mask (1, height, width), 0 to 255, of each frame of a clip.

    mask: of the first frame, (height, width). batches: the clip's frames, uint8 (n, height, width,
    3). The flows are composed to coordinates in the first frame, and the mask is sampled there
    once, so that its edge stays sharp. At pixels whose colours show that the flow is wrong, as at
    disocclusions, GrabCut (Rother et al. 2004) decides, starting from the previous frame's mask
    moved by one step. After a cut the mask is empty.
    """
    height, width = mask.shape
    pixels = np.dstack(np.meshgrid(np.arange(width), np.arange(height))).astype(np.float32)
    origins, carried = pixels, mask
    first = previous = None
    for number, frame in enumerate(frame for frames in batches for frame in frames):
        if first is None or previous is None:
            first = frame
        elif number < scenes[0].stop:
            previous_places = pixels + find_flow(frame, previous, width, height)
            origins = _sample(origins, previous_places)
            uncertain = _distance(_sample(first, origins), frame) > _COLOUR_LIMIT
            carried = _segment_uncertain(
                frame, _sample(mask, origins), uncertain, _sample(carried, previous_places)
            ).astype(np.uint8)
        else:
            carried = np.zeros_like(mask)
        previous = frame
        yield carried[np.newaxis]


def _segment_uncertain(
    frame: Picture,
    carried: NDArray[np.float32],
    uncertain: NDArray[np.bool_],
    likely: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the carried mask with uncertain pixels segmented by colour, starting from `likely`."""
    inside = carried > 127
    near = cv2.dilate((inside | (likely > 127)).astype(np.uint8), _NEAR) > 0
    uncertain = uncertain & near
    certain = near & ~uncertain
    if not uncertain.any() or not inside[certain].any() or inside[certain].all():
        return carried
    rows, columns = (np.nonzero(near.any(axis))[0] for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    initial = np.where(uncertain, likely > 127, inside)
    segmented = np.zeros_like(inside)
    segmented[box] = cut_out(frame[box], initial[box], ~uncertain[box], iterations=1)
    return np.where(uncertain, 255 * segmented, carried).astype(np.float32)


def _sample(values: NDArray[np.generic], coordinates: Coordinates) -> NDArray[np.float32]:
    """Sample values at coordinates. Outside, a mask is 0 and a picture is as at its edge."""
    edge = cv2.BORDER_REPLICATE if values.ndim == 3 else cv2.BORDER_CONSTANT
    sampled = cv2.remap(values, coordinates, None, cv2.INTER_LINEAR, borderMode=edge)
    return np.asarray(sampled, np.float32)


def _distance(picture: NDArray[np.float32], other: Picture) -> NDArray[np.float32]:
    """Return the RMS colour difference of two pictures around each pixel, 0 to 255."""
    squares = np.square(picture - other).mean(-1)
    return np.asarray(np.sqrt(cv2.blur(squares, _WINDOW)))
