"""Detection of scene cuts, so that nothing is shared between scenes."""

from collections.abc import Iterable
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Frames

_SIDE, _CELLS = 64, 4
_LEAST_CHANGE = 0.04
_LEAST_RATIO = 3.0
_AROUND = 4


def find_scenes(batches: Iterable[Frames]) -> tuple[range, ...]:
    """Return the frame numbers of each scene, in order; together they cover all frames.

    batches: the clip's frames, uint8 (n, height, width, 3). A cut is a change of the picture's
    colour distributions by at least 0.04 of their range and 3 times the median change around it, so
    that fast motion does not count. Fades do not count either.
    """
    changes: list[float] = []
    previous = None
    for frames in batches:
        for frame in frames:
            cells = _distributions(frame)
            if previous is not None:
                changes.append(float(np.abs(cells - previous).mean()) / 255)
            previous = cells
    if previous is None:
        return ()
    cuts = [i + 1 for i in range(len(changes)) if _is_cut(changes, i)]
    edges = [0, *cuts, len(changes) + 1]
    return tuple(range(a, b) for a, b in pairwise(edges))


def _distributions(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the sorted values of each colour in 4 x 4 cells, (16, 256, 3), 0 to 255.

    Their mean difference is the earth mover's distance of two histograms. Unlike a comparison bin
    by bin, it stays small if a flat colour moves from one bin to the next.
    """
    small = cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    part = _SIDE // _CELLS
    cells = small.reshape(_CELLS, part, _CELLS, part, 3).swapaxes(1, 2).reshape(-1, part * part, 3)
    values: NDArray[np.float32] = np.sort(cells, axis=1).astype(np.float32)
    return values


def _is_cut(changes: list[float], position: int) -> bool:
    # Compare with the median, as a short scene has another cut nearby.
    around = (
        changes[max(position - _AROUND, 0) : position]
        + changes[position + 1 : position + 1 + _AROUND]
    )
    usual = float(np.median(around)) if around else 0.0
    return changes[position] >= max(_LEAST_CHANGE, _LEAST_RATIO * usual)
