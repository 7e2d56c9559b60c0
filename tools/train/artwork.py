"""The designs that scenes consist of, each as aligned line drawing, cartoon and 3D render.

A folder of artwork holds `things.json` (name -> SVG body, category, whether held out of training)
and a 3D render `renders/NAME.webp` of every thing. `tools/train/artwork` is a small part of
Microsoft's Fluent Emoji (MIT licence); `python -m tools.train.get_artwork` fetches the rest.

A layer is a picture of a single thing: (LAYER, LAYER, 4) uint8, its colours multiplied by its
opacity, on the square of the SVG's view with a margin of one unit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import resvg_py
from PIL import Image

Layer = npt.NDArray[np.uint8]

SMALL = Path(__file__).with_name("artwork")
LAYER = 256  # pixels
VIEW = 34  # units of the view: the design's 32 and a margin of one on each side
INK = "#1a1a20"
DRAWN = ("line drawing", "cartoon", "3D render")
"""Styles that artwork has layers for."""

_DEFINITIONS = re.compile(
    r"<(linearGradient|radialGradient|filter|defs|mask|clipPath)\b.*?</\1>", re.DOTALL
)
_ELEMENT = re.compile(r"<(?:path|circle|ellipse|rect|polygon|line|polyline)\b[^>]*>")
_PAINT = re.compile(
    r"\s(?:stroke|stroke-width|stroke-linejoin|stroke-opacity|fill-opacity|opacity|filter|mask"
    r'|clip-path)="[^"]*"'
)


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A design: its SVG body (view 0 0 32 32) and the file of its 3D render."""

    name: str
    body: str
    render: Path
    category: str
    held_out: bool


class Artwork:
    """The things of a folder by name. Layers are drawn on first use, or all into a shared file."""

    def __init__(self, folder: Path = SMALL) -> None:
        entries = json.loads((folder / "things.json").read_text("utf-8"))
        self.things = {
            name: Thing(name=name, render=folder / "renders" / f"{file_name(name)}.webp", **entry)
            for name, entry in entries.items()
        }
        self._numbers = {name: number for number, name in enumerate(self.things)}
        self._layers: npt.NDArray[np.uint8] | None = None
        self._outlines: dict[str, npt.NDArray[np.bool_]] = {}

    def names(self, *, held_out: bool | None = None) -> tuple[str, ...]:
        """Return all names, or those that are held out of training, or those that are not."""
        return tuple(
            name
            for name, thing in self.things.items()
            if held_out is None or thing.held_out == held_out
        )

    def layer(self, name: str, style: str) -> Layer:
        """Return the layer of a thing in one of the styles `DRAWN`."""
        if self._layers is not None:
            kept: Layer = self._layers[self._numbers[name], DRAWN.index(style)]
            return kept
        return draw_layer(self.things[name], style)

    def outline(self, name: str) -> npt.NDArray[np.bool_]:
        """Return the mask of a thing, (32, 32)."""
        if name not in self._outlines:
            opacity = self.layer(name, "cartoon")[..., 3]
            self._outlines[name] = cv2.resize(opacity, (32, 32)) > 127
        return self._outlines[name]

    def keep_layers(self, path: Path) -> None:
        """Use the layers of a file, which is made if it is missing."""
        if not path.exists():
            partial = path.with_suffix(".partial")
            shape = (len(self.things), len(DRAWN), LAYER, LAYER, 4)
            with partial.open("wb") as file:
                np.lib.format.write_array_header_2_0(
                    file, {"descr": "|u1", "fortran_order": False, "shape": shape}
                )
                for thing in self.things.values():
                    for style in DRAWN:
                        file.write(draw_layer(thing, style).tobytes())
            partial.rename(path)
        self._layers = np.load(path, mmap_mode="r")


def file_name(name: str) -> str:
    return name.replace(" ", "-")


@lru_cache(maxsize=512)
def draw_layer(thing: Thing, style: str) -> Layer:
    if style == "3D render":
        return _premultiplied(_with_margin(Image.open(thing.render)))
    body = line_art(thing.body) if style == "line drawing" else thing.body
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {VIEW} {VIEW}">{body}</svg>'
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=LAYER, height=LAYER))
    return _premultiplied(Image.open(BytesIO(png)))


def line_art(body: str, *, width: float = 0.7) -> str:
    """Return an ink drawing of the same paths: every fill white, every outline a stroke."""

    def draw(match: re.Match[str]) -> str:
        element = match.group()
        open_line = 'fill="none"' in element and 'stroke="' in element
        element = _PAINT.sub("", element)
        element = re.sub(r'\sfill="[^"]*"', "", element)
        fill = "none" if open_line else "#fff"
        stroke = f'fill="{fill}" stroke="{INK}" stroke-width="{width}" stroke-linejoin="round"'
        return re.sub(r"(/?>)$", rf" {stroke}\1", element)

    groups = re.sub(r'(<g\b[^>]*?)\s(?:filter|mask|clip-path|opacity)="[^"]*"', r"\1", body)
    return _ELEMENT.sub(draw, _DEFINITIONS.sub("", groups))


def overlap(one: Layer, other: Layer) -> float:
    """Return the intersection over union of the masks of two layers."""
    covered, also = one[..., 3] > 127, other[..., 3] > 127
    return float((covered & also).sum() / max((covered | also).sum(), 1))


def look_alikes(artwork: Artwork, names: Sequence[str], count: int) -> dict[str, tuple[str, ...]]:
    """Return for each name the `count` things whose outlines overlap most with its own."""
    flat = np.stack([artwork.outline(name).ravel() for name in names]).astype(np.float32)
    common = flat @ flat.T
    sizes = flat.sum(1)
    shares = common / np.maximum(sizes[:, None] + sizes[None] - common, 1)
    np.fill_diagonal(shares, -1)
    order = np.argsort(-shares, axis=1, kind="stable")[:, :count]
    return {name: tuple(names[i] for i in order[row]) for row, name in enumerate(names)}


def _with_margin(image: Image.Image) -> Image.Image:
    """Add the margin of the SVG's view to a 3D render, which fills its square."""
    inner = round(LAYER * 32 / VIEW)
    layer = Image.new("RGBA", (LAYER, LAYER))
    left = (LAYER - inner) // 2
    layer.paste(image.convert("RGBA").resize((inner, inner), Image.Resampling.LANCZOS), (left,) * 2)
    return layer


def _premultiplied(image: Image.Image) -> Layer:
    pixels = np.asarray(image.convert("RGBA"), np.float32)
    opacity = pixels[..., 3:]
    return np.concatenate((pixels[..., :3] * opacity / 255, opacity), -1).round().astype(np.uint8)
