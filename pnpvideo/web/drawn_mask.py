"""A mask that a visitor has drawn on the first frame of a source."""

from collections.abc import Mapping

import cv2
import numpy as np

from pnpvideo.clips.clip import Frames
from pnpvideo.pixels.mask import Weights

Editor = Mapping[str, object]
"""What gradio's ImageEditor holds: a background, and layers over it as RGBA."""

COLOUR = (255, 64, 64)
_SEEN = 0.5
"""How much of what is drawn covers what is below."""


def mask_of(editor: Editor | None) -> Weights | None:
    """White where anything is drawn, (height, width); None where nothing is."""
    layers = [] if editor is None else editor.get("layers") or []
    assert isinstance(layers, list)
    drawn = [np.asarray(layer)[..., 3] for layer in layers if layer is not None]
    if not drawn or not np.any(drawn):
        return None
    return np.where(np.max(drawn, axis=0) > 0, 255, 0).astype(np.uint8)


def editor_of(first: Frames, mask: Weights | None) -> Editor:
    """The editor on a first frame (height, width, 3), a mask being drawn on it."""
    layers = []
    if mask is not None:
        layer = np.zeros((*mask.shape, 4), np.uint8)
        layer[mask > 127] = (*COLOUR, 255)
        layers.append(layer)
    return {"background": first, "layers": layers, "composite": None}


def brush_radius(first: Frames) -> int:
    """Pixels of a frame (height, width, 3): enough to draw its things with few strokes.

    The editor draws with gaps where it is smaller than 3.
    """
    radius: int = max(3, min(first.shape[:2]) // 20)
    return radius


def fitted(mask: Weights, width: int, height: int) -> Weights:
    """At the size of the source."""
    resized: Weights = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    return resized


def tinted(frame: Frames, mask: Weights) -> Frames:
    """A frame (height, width, 3) that shows where its mask is."""
    share = mask[..., np.newaxis].astype(np.float32) / 255 * _SEEN
    return np.rint(frame + share * (np.array(COLOUR) - frame)).astype(np.uint8)
