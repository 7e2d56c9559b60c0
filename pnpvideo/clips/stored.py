"""The values of a picture as they are stored, and as 8 bits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pnpvideo.errors import InputError

STORED = "stored values"
"""The name in a picture's `info` of its single channel with all bits."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One picture's values as they are stored, for pictures whose values have a meaning of their
    own: masks and maps of labels.

    values: (height, width) of brightness, labels or palette indices, or colours (height, width, 3)
        of 8 bits. is_label: whether single values are labels for certain, not brightness.
    palette: the colours of indices, (256, 3). alpha: opacity, (height, width), 0 to 255; None:
        opaque.
    """

    values: NDArray[np.generic]
    is_label: bool = False
    palette: NDArray[np.uint8] | None = None
    alpha: NDArray[np.uint8] | None = None

    def pixels(self) -> NDArray[np.uint8]:
        """Return the colours, (height, width, 3), of 8 bits."""
        if self.palette is not None:
            return self.palette[self.values.astype(np.intp)]
        values = self.values
        if values.ndim == 2:
            values = np.repeat(to_eight_bits(values, "the mask")[..., np.newaxis], 3, axis=-1)
        return values.astype(np.uint8, copy=False)

    def opacity(self) -> NDArray[np.uint8]:
        """Return the opacity, (height, width)."""
        if self.alpha is None:
            return np.full(self.values.shape[:2], 255, np.uint8)
        return self.alpha


def to_eight_bits(values: NDArray[np.generic], name: Path | str) -> NDArray[np.uint8]:
    """Return the picture with 8 bits, from whole numbers of any size or floating-point values.

    Floating-point values range from 0 to 1 (or slightly more), or from 0 to 255. Raise InputError
    if they are larger. name: the picture's name in errors.
    """
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    if values.dtype.kind == "f":
        scale = 255 if _highest(values, name) <= 2 else 1
        scaled = np.nan_to_num(values.astype(np.float64), posinf=255) * scale
    elif values.dtype == np.bool_:
        scaled = values.astype(np.float64) * 255
    else:
        scaled = values.astype(np.float64) / float(np.iinfo(values.dtype.str).max) * 255
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _highest(values: NDArray[np.generic], name: Path | str) -> float:
    finite = values[np.isfinite(values.astype(np.float64))]
    top = float(finite.max(initial=0))
    if top > 256:
        raise InputError(
            f"{name} has floating-point values up to {top:g}; save it with values from 0 to 1, or "
            "from 0 to 255"
        )
    return top
