"""Tell photos from drawings."""

import cv2
import numpy as np

from pnpvideo.clips.clip import Picture

_SIDE, _CELL = 256, 8  # pixels
_LEAST = 6.0  # of 255; photos have 10 to 16 here, scanned drawings and renders 0 to 3


def looks_like_photo(frame: Picture) -> bool:
    """Return whether a frame, uint8 (height, width, 3), has no smooth areas to speak of.

    Most of a drawing or a simple render is smooth, while in most of a photo there is some texture:
    the median of the values' standard deviation within small cells tells the two apart.
    """
    height, width = (side * _SIDE / max(frame.shape[:2]) for side in frame.shape[:2])
    rows, columns = int(height) // _CELL, int(width) // _CELL
    if not (rows and columns):
        return False
    size = columns * _CELL, rows * _CELL
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    cells = small.reshape(rows, _CELL, columns, _CELL, 3).std((1, 3))
    return float(np.median(cells.max(-1))) > _LEAST
