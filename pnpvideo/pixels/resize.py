"""Frames at another size."""

import cv2
import numpy as np

from pnpvideo.clips.clip import Frames


def resize_frames(frames: Frames, width: int, height: int) -> Frames:
    """Frames (n, h, w, 3), or opacity (n, h, w), at another size, antialiased when they shrink."""
    if frames.shape[1:3] == (height, width):
        return frames
    shrinks = width * height < frames.shape[1] * frames.shape[2]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, (width, height), interpolation=how) for frame in frames])
