"""Scene cuts: where a clip is cut, so that nothing is shared from one scene to the next."""

from collections.abc import Iterable
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Frames

_SIDE, _CELLS = 64, 4
_LEAST = 0.04
_TIMES = 3.0
_AROUND = 4


def find_scenes(batches: Iterable[Frames]) -> tuple[range, ...]:
    """The frame numbers of each scene, in order, together all frames.

    batches: the clip's frames, uint8 (n, height, width, 3). A cut is where the picture's
    distributions change by at least 0.04 of their range and 3 times as much as around it, so that
    fast motion makes no cut. Fades are none.
    """
    change: list[float] = []
    last = None
    for frames in batches:
        for frame in frames:
            cells = _distributions(frame)
            if last is not None:
                change.append(float(np.abs(cells - last).mean()) / 255)
            last = cells
    if last is None:
        return ()
    cuts = [i + 1 for i in range(len(change)) if _is_cut(change, i)]
    edges = [0, *cuts, len(change) + 1]
    return tuple(range(a, b) for a, b in pairwise(edges))


def _distributions(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The sorted values of each colour in 4 x 4 cells, 0 to 255.

    Their mean difference is the earth mover's distance of two histograms: unlike a comparison bin
    by bin it stays small where a flat colour moves from one bin to the next.
    """
    small = cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    part = _SIDE // _CELLS
    cells = small.reshape(_CELLS, part, _CELLS, part, 3).swapaxes(1, 2).reshape(-1, part * part, 3)
    values: NDArray[np.float32] = np.sort(cells, axis=1).astype(np.float32)
    return values


def _is_cut(change: list[float], place: int) -> bool:
    # The median: a short scene has another cut close by.
    around = change[max(place - _AROUND, 0) : place] + change[place + 1 : place + 1 + _AROUND]
    usual = float(np.median(around)) if around else 0.0
    return change[place] >= max(_LEAST, _TIMES * usual)
