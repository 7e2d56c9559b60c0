"""The pictures that a ControlNet follows: read from files, or drawn from a source's frames."""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Clip, Frames, Picture, frame_count_text
from pnpvideo.errors import InputError
from pnpvideo.options.method import ControlKind
from pnpvideo.pixels.resize import resize_frames

# The thresholds with which the ControlNets were trained (Zhang et al. 2023, section 4.1).
_CANNY = 100, 200
# For frames of 512 pixels a side, the models' training size: the spread of soft edges, and the
# radius of a line's surroundings, in pixels.
_SIDE, _SOFT, _AROUND = 512, 2.0, 6.0
# Edges of this step, and lines darker than their surroundings by this much (of 255), are white.
_STEP, _DARKER = 128, 64


def check_control(image: Clip, size: tuple[int, int], count: int) -> None:
    """Raise InputError unless there is a picture of this (width, height) for each source frame."""
    if len(image) != count:
        raise InputError(
            f"the control image {image.name} has {frame_count_text(len(image))} and the source "
            f"{frame_count_text(count)}; give one picture for each frame"
        )
    width, height = size
    # Allow for the rounding of another size of the same shape, half a pixel on each side.
    if abs(image.width * height - image.height * width) > (width + height) / 2:
        raise InputError(
            f"the control image {image.name} has {image.width}x{image.height} pixels and the "
            f"source {width}x{height}; give pictures with the source's aspect ratio"
        )


def control_frames(image: Clip, size: tuple[int, int], batch_size: int) -> Iterator[Frames]:
    """Yield the pictures at (width, height), in batches."""
    for frames in image.batches(batch_size):
        yield resize_frames(frames, *size)


def draw_control(frames: Frames, kind: ControlKind) -> Frames:
    """Draw frames (n, height, width, 3) as white lines on black.

    canny: edges as lines of one pixel (Canny 1986). softedge: the gradient's magnitude, white from
    a step of half the range on. lineart: how much darker a pixel is than its surroundings.
    """
    drawings = (_DRAW[kind](frame) for frame in frames)
    return np.stack([cv2.cvtColor(drawing, cv2.COLOR_GRAY2RGB) for drawing in drawings])


def _canny(frame: Picture) -> NDArray[np.uint8]:
    return np.asarray(cv2.Canny(frame, *_CANNY), np.uint8)


def _soft_edges(frame: Picture) -> NDArray[np.uint8]:
    spread = max(_SOFT * min(frame.shape[:2]) / _SIDE, 0.5)
    smooth = cv2.GaussianBlur(frame.astype(np.float32), (0, 0), spread)
    across, down = (
        cv2.Scharr(smooth, cv2.CV_32F, *order, scale=1 / 32) for order in ((1, 0), (0, 1))
    )
    # The highest gradient of a step of that height, smoothed by this Gaussian.
    white = _STEP / (spread * np.sqrt(2 * np.pi))
    length = np.hypot(across, down).max(-1)
    return np.asarray(np.rint((255 / white * length).clip(0, 255)), np.uint8)


def _dark_lines(frame: Picture) -> NDArray[np.uint8]:
    around = max(_AROUND * min(frame.shape[:2]) / _SIDE, 1)
    pixels = frame.astype(np.float32)
    darker = (cv2.GaussianBlur(pixels, (0, 0), around) - pixels).min(-1)
    return np.asarray(np.rint((255 / _DARKER * darker).clip(0, 255)), np.uint8)


_DRAW: dict[ControlKind, Callable[[Picture], NDArray[np.uint8]]] = {
    "canny": _canny,
    "softedge": _soft_edges,
    "lineart": _dark_lines,
}
