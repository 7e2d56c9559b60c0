"""Pixels of any depth with 8 bits."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pnpvideo.errors import InputError


def to_eight_bits(values: NDArray[np.generic], name: Path | str) -> NDArray[np.uint8]:
    """The same picture with 8 bits, of whole numbers of any size or of floating-point ones.

    Those count from 0 to 1, and may go somewhat beyond, or from 0 to 255. InputError where they do
    neither. name: of the picture.
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
