"""Labelled sheets of pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]
"""(height, width, 3), 0 to 255."""

INK, PAPER, MARK = (32, 32, 36), (255, 255, 255), (214, 40, 90)
_FAINT = (244, 244, 246)
_TEXT = 14  # pixels
_LINE = _TEXT + 4
_GAP = 6
_NAMES = 120


def font(size: int = _TEXT) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that comes with Pillow."""
    return ImageFont.load_default(size)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A place of a sheet. caption: stands below it. marked: has a coloured frame."""

    picture: Picture
    caption: str = ""
    marked: bool = False


def sheet(
    rows: Sequence[Sequence[Cell | None]],
    *,
    row_names: Sequence[str],
    column_names: Sequence[str],
    side: int,
) -> Picture:
    """Draw pictures in rows and columns, each with its name.

    side: pixels of the longest side of the pictures, which keep their shapes.
    """
    fitted = [[None if cell is None else _fitted(cell.picture, side) for cell in r] for r in rows]
    shapes = [one.shape for row in fitted for one in row if one is not None]
    high, wide = (max((shape[axis] for shape in shapes), default=side) for axis in (0, 1))
    # As wide whatever the names are: all frames of a video have one size.
    left = _NAMES + 2 * _GAP if any(row_names) else _GAP
    heads = [wrapped(name, wide) for name in column_names]
    captions = [[wrapped(c.caption if c else "", wide) for c in row] for row in rows]
    below = [_LINE * max((len(text) for text in row), default=0) for row in captions]
    top = _LINE * max(map(len, heads), default=0) + 2 * _GAP
    size = (
        left + len(column_names) * (wide + _GAP),
        top + sum(high + _GAP + extra for extra in below),
    )
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    for column, head in enumerate(heads):
        x = left + column * (wide + _GAP) + wide / 2
        draw.text((x, top - _GAP), "\n".join(head), INK, font(), anchor="md", align="center")
    y = top
    for row, cells in enumerate(rows):
        name = "\n".join(wrapped(row_names[row], _NAMES))
        draw.text((_GAP, y + high / 2), name, INK, font(), anchor="lm")
        for column, cell in enumerate(cells):
            picture = fitted[row][column]
            if cell is None or picture is None:
                continue
            x = left + column * (wide + _GAP)
            draw.rectangle((x, y, x + wide - 1, y + high - 1), _FAINT)
            place = (x + (wide - picture.shape[1]) // 2, y + (high - picture.shape[0]) // 2)
            image.paste(Image.fromarray(picture), place)
            if cell.marked:
                draw.rectangle((x - 3, y - 3, x + wide + 2, y + high + 2), outline=MARK, width=3)
            text = "\n".join(captions[row][column])
            draw.text((x + wide / 2, y + high + 4), text, INK, font(), anchor="ma", align="center")
        y += high + _GAP + below[row]
    return np.asarray(image)


def wrapped(text: str, width: int) -> list[str]:
    """Break a text into at most four lines of so many pixels, if its words are short enough."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _width(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines if len(lines) <= 4 else [*lines[:3], "..."]


def over(picture: Picture, weights: NDArray[np.floating]) -> Picture:
    """Draw a heat map (h, w) of values from 0 to 1 over a grey picture, stretched to its size."""
    height, width, _ = picture.shape
    large = cv2.resize(weights.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    heat = cv2.applyColorMap(np.rint(large.clip(0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return mixed(picture, np.ascontiguousarray(heat[..., ::-1]))


def mixed(picture: Picture, colours: Picture, share: float = 0.6) -> Picture:
    """Mix a grey picture with colours. share: of the colours, 0 to 1."""
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(grey, 1 - share, colours, share, 0))


def _fitted(picture: Picture, side: int) -> Picture:
    """Resize to a longest side. A coarse picture keeps its squares, to show how coarse it is."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, size, interpolation=how))


def _width(text: str) -> int:
    return int(np.ceil(font().getlength(text)))
