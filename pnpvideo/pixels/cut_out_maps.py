"""Masks of what attention maps show, cut out along the edges of the picture itself."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

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
NOWHERE = 0.9
"""A mask of a larger share of the picture than this is of nothing in particular."""

# Above and below so many times the threshold, attention alone decides.
_SURELY, _SURELY_NOT = 1.6, 0.4
_CUTS = 3

# Spread maps find all things of a picture alike. Of the parts of a mask that do not touch, those
# are kept that the words attend to nearly as much as to the first one.
_NEARLY = 0.9
# In later frames this decides only between parts that lie where the mask was in the frame before.
_STILL = 0.5
# Smaller parts, as shares of the mask, go with any other.
_SPECK = 0.02


@dataclass(frozen=True, kw_only=True)
class NamedMaps:
    """Maps of where frames show what a text names.

    direct: as attended. spread: the same, spread over similar places.
    """

    spread: Maps
    direct: Maps


def mask_of_maps(
    maps: Iterable[NamedMaps], batches: Iterable[Frames], name: str, scenes: Sequence[range] = ()
) -> Iterator[Weights]:
    """Yield masks of frames (n, height, width, 3) from their attention maps, batch by batch.

    A mask is white above Otsu's threshold of the spread maps; near that threshold the frame's own
    edges decide. Of parts that do not touch, the direct maps choose. InputError if no part stands
    out in the first batch. name: what the maps show, for its message. scenes: the numbers of their
    frames, in which a mask stays with what it was on.
    """
    starts, number = {scene.start for scene in scenes}, 0
    before: Weights | None = None
    for first, (some, frames) in enumerate(zip(maps, batches, strict=True)):
        large, direct = (_enlarged(one, frames) for one in (some.spread, some.direct))
        grey = np.rint(large.clip(0) * (255 / large.max())).astype(np.uint8)
        masks = []
        for frame, one, attended in zip(frames, grey, direct, strict=True):
            before = None if number in starts else before
            before = _chosen(_cut_out(frame, one), attended, before)
            masks.append(before)
            number += 1
        if first == 0:
            _check_found(large, np.stack(masks), name)
        yield np.stack(masks)


def _enlarged(maps: Maps, frames: Frames) -> Maps:
    height, width = frames.shape[1:3]
    return np.stack(
        [cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in maps]
    )


def _check_found(maps: Maps, masks: Weights, name: str) -> None:
    """Raise InputError if no part of frames stands out."""
    if not maps.max() >= STANDS_OUT or (masks > 0).mean() > NOWHERE:
        raise InputError(
            f"{name!r} is not found in the source; name something that it shows, or give a mask"
        )


def _chosen(mask: Weights, attended: Maps, before: Weights | None) -> Weights:
    """Return the parts of a frame's mask (height, width) that show what is named.

    attended: how much words attend to each pixel. before: the mask of the frame before.
    """
    count, labels, sizes, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    least = _SPECK * np.count_nonzero(mask)
    parts = [one for one in range(1, count) if sizes[one, cv2.CC_STAT_AREA] >= least]
    if len(parts) < 2:
        return mask
    shares = {one: float(attended[labels == one].mean()) for one in parts}
    close = [one for one in parts if shares[one] >= _NEARLY * max(shares.values())]
    if before is not None:
        there = [one for one in parts if (before[labels == one] > 0).mean() > 0.5]
        most = max((shares[one] for one in there), default=0.0)
        close = [one for one in there if shares[one] >= _STILL * most] or close
    return np.where(np.isin(labels, close), mask, np.uint8(0))


def _cut_out(frame: Frames, attended: Weights) -> Weights:
    """Return the mask of one frame, given how much its pixels attend: (height, width)."""
    threshold, mask = cv2.threshold(attended, 0, 255, cv2.THRESH_OTSU)
    likely = mask > 0
    if likely.any() and not likely.all():
        sure = (attended > _SURELY * threshold) | (attended <= _SURELY_NOT * threshold)
        found = cut_out(frame, likely, sure, iterations=_CUTS)
        mask = np.where(found, 255, 0).astype(np.uint8) if found.any() else mask
    return np.asarray(mask)
