"""Where a thing ends as a picture's colours and edges say (GrabCut, Rother et al. 2004)."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Frames


def cut_out(
    frame: Frames, likely: NDArray[np.bool_], sure: NDArray[np.bool_], *, iterations: int
) -> NDArray[np.bool_]:
    """Where a frame (height, width, 3) shows a thing, (height, width).

    likely: where it is thought to be, not nowhere nor everywhere. sure: where that is not decided
    anew.
    """
    states = np.where(likely, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    states[sure & likely] = cv2.GC_FGD
    states[sure & ~likely] = cv2.GC_BGD
    cv2.setRNGSeed(0)
    unused, background, inner = (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65))
    picture = np.ascontiguousarray(frame)
    cv2.grabCut(picture, states, unused, background, inner, iterations, cv2.GC_INIT_WITH_MASK)
    return np.asarray((states == cv2.GC_FGD) | (states == cv2.GC_PR_FGD))
