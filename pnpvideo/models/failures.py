"""Results that are not pictures (NaN, or a single colour), and their most likely cause."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from pnpvideo.clips.clip import Frames
from pnpvideo.errors import RunError

_PLAIN = 2
"""Levels, of 255, by which pixels that count as one colour may differ."""
_NEARLY_PLAIN = 16
_NEAR = 0.25
"""In latents, whose variance is about 1. The embedded model's autoencoder takes a plain white for
latents that are 0.01 from those that show it, and 0.4 to 4 from those of drawings and photos."""


def check_finite(values: Tensor, maker: str, dtype: torch.dtype) -> None:
    """Raise RunError if a part of the model made NaN or infinity in this precision."""
    if not bool(values.isfinite().all()):
        raise RunError(
            f"the {maker} made values that are not numbers (NaN): {_cause(maker, dtype)}"
        )


def check_not_plain(
    frames: Iterable[Frames],
    latents: Tensor,
    source: Callable[[], Iterable[Frames]],
    encode: Callable[[Frames], Tensor],
    dtype: torch.dtype,
    *,
    last_piece: int = 1,
) -> Iterator[Frames]:
    """Yield the frames of one result; after the last, raise RunError if all are of one colour.

    One colour is right if the source shows hardly more (a fade, a title card), or if the latents
    are those of a picture of that colour, as the prompt may have asked for: encoding it gives
    about the same latents. A clip may begin or end with frames of one colour.
    frames: uint8 (n, height, width, 3), decoded from latents (frames, c, h, w). source: its frames
    in the same form. encode: makes latents of frames. dtype: that the autoencoder runs in.
    last_piece: how many frames the last of the latents makes.
    """
    plain = True
    last: Frames | None = None
    for batch in frames:
        plain = plain and is_plain(batch, _PLAIN)
        last = batch
        yield batch
    if not plain or last is None or all(is_plain(batch, _NEARLY_PLAIN) for batch in source()):
        return
    shown = encode(last[-last_piece:]).to(latents)
    if float((shown - latents[-1:]).square().mean().sqrt()) > _NEAR:
        raise RunError(f"the result is of one colour: {_cause('autoencoder', dtype)}")


def is_plain(frames: Frames, levels: int) -> bool:
    """Return whether in each frame the pixels differ by at most so many levels."""
    return bool(np.ptp(frames, axis=(1, 2)).max() <= levels)


def _cause(maker: str, dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if dtype in (torch.float16, torch.bfloat16):
        fixed = ", or a model with a fixed autoencoder" if maker == "autoencoder" else ""
        return f"most likely {name} is too coarse for it; give --dtype float32{fixed}"
    return (
        f"as this is {name}, most likely the model's files are damaged or do not belong together, "
        "or it predicts something other than its scheduler says (--prediction-type)"
    )
