"""The pictures that a ControlNet follows: read from files, or drawn of a source's frames."""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Clip, Frames, tell_frames
from pnpvideo.errors import InputError
from pnpvideo.options.method import ControlKind
from pnpvideo.pixels.resize import resize_frames

# What the ControlNets for it were trained with (Zhang et al. 2023, section 4.1).
_CANNY = 100, 200
# Of a frame of 512 pixels a side, the size that these models know: so far edges are soft, and so
# far around a line its surroundings are looked at.
_SIDE, _SOFT, _AROUND = 512, 2.0, 6.0
# Edges of such steps, and lines so much darker than their surroundings, of 255, are white.
_STEP, _DARKER = 128, 64


def check_control(image: Clip, size: tuple[int, int], count: int) -> None:
    """InputError unless there is a picture for each frame of a source of this (width, height)."""
    if len(image) != count:
        raise InputError(
            f"the control image {image.name} has {tell_frames(len(image))} and the source "
            f"{tell_frames(count)}; give a picture for each"
        )
    width, height = size
    # As another size of the same shape is rounded, to half a pixel of each side.
    if abs(image.width * height - image.height * width) > (width + height) / 2:
        raise InputError(
            f"the control image {image.name} has {image.width}x{image.height} pixels and the "
            f"source {width}x{height}; give pictures of the source's shape"
        )


def control_frames(image: Clip, size: tuple[int, int], batch_size: int) -> Iterator[Frames]:
    """The pictures at (width, height), some at a time."""
    for frames in image.batches(batch_size):
        yield resize_frames(frames, *size)


def draw_control(frames: Frames, kind: ControlKind) -> Frames:
    """Frames (n, height, width, 3) as white lines on black.

    canny: edges as lines of one pixel (Canny 1986). softedge: the length of the gradient, white
    from a step of half the way from black to white on. lineart: how much darker a place is than
    its surroundings.
    """
    drawn = (_DRAWN[kind](frame) for frame in frames)
    return np.stack([cv2.cvtColor(one, cv2.COLOR_GRAY2RGB) for one in drawn])


def _canny(frame: Frames) -> NDArray[np.uint8]:
    return np.asarray(cv2.Canny(frame, *_CANNY), np.uint8)


def _soft_edges(frame: Frames) -> NDArray[np.uint8]:
    spread = max(_SOFT * min(frame.shape[:2]) / _SIDE, 0.5)
    smooth = cv2.GaussianBlur(frame.astype(np.float32), (0, 0), spread)
    across, down = (cv2.Scharr(smooth, cv2.CV_32F, *way, scale=1 / 32) for way in ((1, 0), (0, 1)))
    # What a step of that height is at most in a Gaussian of this spread.
    white = _STEP / (spread * np.sqrt(2 * np.pi))
    length = np.hypot(across, down).max(-1)
    return np.asarray(np.rint((255 / white * length).clip(0, 255)), np.uint8)


def _dark_lines(frame: Frames) -> NDArray[np.uint8]:
    around = max(_AROUND * min(frame.shape[:2]) / _SIDE, 1)
    pixels = frame.astype(np.float32)
    darker = (cv2.GaussianBlur(pixels, (0, 0), around) - pixels).min(-1)
    return np.asarray(np.rint((255 / _DARKER * darker).clip(0, 255)), np.uint8)


_DRAWN: dict[ControlKind, Callable[[Frames], NDArray[np.uint8]]] = {
    "canny": _canny,
    "softedge": _soft_edges,
    "lineart": _dark_lines,
}
