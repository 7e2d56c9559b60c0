"""Masks of what attention maps show, cut out along the edges of the picture itself."""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Frames
from pnpvideo.errors import InputError
from pnpvideo.pixels.mask import Weights, cut_out

Maps = NDArray[np.float32]
"""Attention of each place of frames to a text: (n, h, w), 1 on average in a frame."""

STANDS_OUT = 1.4
"""If something is found, its most attended place has at least so many times the average."""

# Above and below so many times the threshold, attention alone decides.
_SURELY, _SURELY_NOT = 1.6, 0.4
_CUTS = 3


def mask_of_maps(maps: Iterable[Maps], batches: Iterable[Frames], name: str) -> Iterator[Weights]:
    """Yield masks of frames (n, height, width, 3) from their attention maps, batch by batch.

    A mask is white above Otsu's threshold; near that threshold the frame's own edges decide.
    InputError if no part stands out in the first batch. name: what the maps show, for its message.
    """
    for number, (some, frames) in enumerate(zip(maps, batches, strict=True)):
        height, width = frames.shape[1:3]
        large = np.stack(
            [cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in some]
        )
        if number == 0 and not large.max() >= STANDS_OUT:
            raise InputError(
                f"{name!r} is not found in the source; name something that it shows, or give a mask"
            )
        grey = np.rint(large.clip(0) * (255 / large.max())).astype(np.uint8)
        yield np.stack([_cut_out(frame, one) for frame, one in zip(frames, grey, strict=True)])


def _cut_out(frame: Frames, attended: Weights) -> Weights:
    """Return the mask of one frame, given how much its pixels attend: (height, width)."""
    threshold, mask = cv2.threshold(attended, 0, 255, cv2.THRESH_OTSU)
    likely = mask > 0
    if likely.any() and not likely.all():
        sure = (attended > _SURELY * threshold) | (attended <= _SURELY_NOT * threshold)
        found = cut_out(frame, likely, sure, iterations=_CUTS)
        mask = np.where(found, 255, 0).astype(np.uint8) if found.any() else mask
    return np.asarray(mask)
