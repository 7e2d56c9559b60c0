"""Convert between masks and drawings that a visitor makes on the first frame of a source."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import gradio as gr
import numpy as np
from gradio.components.base import server
from gradio.components.image_editor import AcceptBlobs, EditorData
from PIL import Image, UnidentifiedImageError

from pnpvideo.clips.clip import Frames
from pnpvideo.errors import InputError
from pnpvideo.pixels.mask import Weights
from pnpvideo.pixels.show_mask import COLOUR, TINT

Editor = Mapping[str, object]
"""The value of gradio's ImageEditor: a background, and layers over it."""

LAYERS = 4
"""The most layers of a drawing. The page has one."""
# What the page sends. Of other kinds, opening one may already cost the memory of its pixels.
_FORMATS = ("PNG",)


def drawing_editor(**given: object) -> gr.ImageEditor:
    """Return an ImageEditor that decodes nothing: `mask_of` does, within a limit of pixels."""
    editor = gr.ImageEditor(**given)
    # Gradio writes files beside the source of a class that derives from a component.
    editor.preprocess, editor.accept_blobs = _layers, server(_accept_blobs)  # type: ignore[no-untyped-call]
    return editor


def _layers(payload: EditorData | None) -> Editor | None:
    """Return the value of an editor: the files of its layers."""
    if payload is None:
        return None
    return {"layers": [Path(layer.path) for layer in payload.layers[: LAYERS + 1]]}


def _accept_blobs(data: AcceptBlobs) -> None:
    """Drop what a page would send after each stroke: ours uploads the drawing when it is used.

    Gradio's own would keep whatever a visitor sends, for ever.
    """


def mask_of(editor: Editor | None, pixels: int) -> Weights | None:
    """Return a mask (height, width), white where anything is drawn; None if nothing is.

    pixels: the most in a layer. InputError, before anything is decoded, for larger ones.
    """
    layers = [] if editor is None else editor.get("layers") or []
    assert isinstance(layers, list)
    if len(layers) > LAYERS:
        raise InputError(f"the drawing has more than {LAYERS} layers; draw on one")
    mask: Weights | None = None
    for layer in layers:
        drawn = _drawn(layer, pixels)
        if mask is not None and mask.shape != drawn.shape:
            raise InputError("the drawing has layers of different sizes; clear it and draw again")
        mask = drawn if mask is None else np.maximum(mask, drawn)
    return mask if mask is not None and mask.any() else None


def _drawn(layer: object, pixels: int) -> Weights:
    """Return where a layer, an array or a file, is not transparent."""
    if isinstance(layer, np.ndarray):
        alpha = layer[..., 3]
    else:
        assert isinstance(layer, Path)
        try:
            with Image.open(layer, formats=_FORMATS) as picture:
                if picture.width * picture.height > pixels:
                    raise Image.DecompressionBombError
                alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
        except Image.DecompressionBombError:
            raise InputError(
                f"the drawing has more than {pixels} pixels, the limit here; clear it and "
                "draw again"
            ) from None
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
            raise InputError("the drawing cannot be read; clear it and draw again") from None
    return np.where(alpha > 0, 255, 0).astype(np.uint8)


def editor_of(first: Frames, mask: Weights | None) -> Editor:
    """Return the editor's value for a frame (height, width, 3) with a mask drawn on it."""
    layers = []
    if mask is not None:
        layer = np.zeros((*mask.shape, 4), np.uint8)
        layer[mask > 127] = (*COLOUR, round(255 * TINT))
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
