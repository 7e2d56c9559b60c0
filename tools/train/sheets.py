"""Contact sheets: rows of pictures with a text below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tools.train.appearance import Pixels

GAP = 12  # pixels between two rows of pictures


def write_sheet(
    rows: Sequence[tuple[Sequence[Pixels], str]], path: Path, *, columns: int = 4
) -> None:
    """Write rows of pictures (height, width, 3) in [0, 1] of one size, with texts, in `columns`.

    The pictures of a row are side by side without a gap.
    """
    height = max(len(picture) for picture in rows[0][0])
    width = sum(picture.shape[1] for picture in rows[0][0])
    letter = max(13, height // 13)
    font = ImageFont.load_default(letter)
    letters = int(width / (0.6 * letter))
    down = height + round(2.6 * letter) + GAP
    size = (columns * (width + GAP), -(-len(rows) // columns) * down)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for number, (pictures, text) in enumerate(rows):
        left, top = number % columns * (width + GAP), number // columns * down
        array = (255 * np.concatenate(list(pictures), 1).clip(0, 1)).round().astype(np.uint8)
        sheet.paste(Image.fromarray(array), (left, top))
        lines = "\n".join(textwrap.wrap(text, letters)[:2])
        pen.multiline_text((left, top + height), lines, fill="black", font=font, spacing=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=90)
