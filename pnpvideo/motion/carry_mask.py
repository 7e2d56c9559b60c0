"""A mask of a clip's first frame, carried along the clip's motion."""

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Frames
from pnpvideo.clips.mask import Weights
from pnpvideo.motion.flow import find_flow


def carry_mask(
    mask: Weights, batches: Iterable[Frames], scenes: Sequence[range]
) -> Iterator[Weights]:
    """The mask (1, height, width) of each frame of a clip, one by one.

    mask: of the first frame, (height, width). batches: the clip's frames, uint8 (n, height, width,
    3). The places in the first frame that later frames show are composed from flow to flow, and
    the mask is looked up once, so that its edge stays sharp. Behind a cut it is empty.
    """
    height, width = mask.shape
    here = np.dstack(np.meshgrid(np.arange(width), np.arange(height))).astype(np.float32)
    places, last = here, None
    for number, frame in enumerate(frame for frames in batches for frame in frames):
        if number >= scenes[0].stop:
            yield np.zeros_like(mask)[np.newaxis]
            continue
        if last is not None:
            before = here + find_flow(frame, last, width, height)
            places = _look_up(places, before)
        last = frame
        inside = ((places >= 0) & (places <= (width - 1, height - 1))).all(-1)
        yield (np.where(inside, _look_up(mask, places), 0)).astype(np.uint8)[np.newaxis]


def _look_up(values: NDArray[np.generic], places: NDArray[np.float32]) -> NDArray[np.float32]:
    found = cv2.remap(values, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found)
