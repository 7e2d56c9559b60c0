"""Convert between masks and drawings that a visitor makes on the first frame of a source."""

from collections.abc import Mapping

import cv2
import numpy as np

from pnpvideo.clips.clip import Frames
from pnpvideo.pixels.mask import Weights

Editor = Mapping[str, object]
"""The value of gradio's ImageEditor: a background, and RGBA layers over it."""

COLOUR = (255, 64, 64)
_TINT = 0.5
"""The opacity of the colour over a frame, 0 to 1."""


def mask_of(editor: Editor | None) -> Weights | None:
    """Return a mask (height, width), white where anything is drawn; None if nothing is."""
    layers = [] if editor is None else editor.get("layers") or []
    assert isinstance(layers, list)
    drawn = [np.asarray(layer)[..., 3] for layer in layers if layer is not None]
    if not drawn or not np.any(drawn):
        return None
    return np.where(np.max(drawn, axis=0) > 0, 255, 0).astype(np.uint8)


def editor_of(first: Frames, mask: Weights | None) -> Editor:
    """Return the editor's value for a frame (height, width, 3) with a mask drawn on it."""
    layers = []
    if mask is not None:
        layer = np.zeros((*mask.shape, 4), np.uint8)
        layer[mask > 127] = (*COLOUR, 255)
        layers.append(layer)
    return {"background": first, "layers": layers, "composite": None}


def brush_radius(first: Frames) -> int:
    """Return a radius in pixels, for a frame (height, width, 3), that needs few strokes.

    The editor leaves gaps in lines of a radius below 3.
    """
    radius: int = max(3, min(first.shape[:2]) // 20)
    return radius


def resized_nearest(mask: Weights, width: int, height: int) -> Weights:
    """Resize a mask (height, width) without making new values."""
    resized: Weights = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    return resized


def tinted(frame: Frames, mask: Weights) -> Frames:
    """Return a frame (height, width, 3) with its mask shown in colour."""
    share = mask[..., np.newaxis].astype(np.float32) / 255 * _TINT
    return np.rint(frame + share * (np.array(COLOUR) - frame)).astype(np.uint8)
