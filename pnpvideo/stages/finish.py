"""Turns the latents of a result into its frames: decoded, blended, and put into the source."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from pnpvideo.clips.clip import Frames
from pnpvideo.models.autoencoder import frames_to_tensor
from pnpvideo.models.failures import check_not_plain
from pnpvideo.models.model import Model
from pnpvideo.pixels.blend import blend_frames
from pnpvideo.pixels.mask import composite
from pnpvideo.stages.latents import decode
from pnpvideo.stages.mask import Mask
from pnpvideo.stages.source import Source

_PIECES = 4
"""The last of this many pieces of an unchanging scene encodes like the last of any number."""


def finish(
    model: Model,
    latents: Tensor,
    source: Source,
    mask: Mask | None,
    blend_radius: int,
    batch_size: int,
) -> Iterator[Frames]:
    """Return the frames of one result, (pieces, c, h, w), some at a time.

    They are blended along the motion of the source, and put into the source if a part is edited:
    uint8 frames (n, height, width, 3) of the working size. RunError if they show a failure (see
    `check_not_plain`).
    """
    frames = check_not_plain(
        decode(model, latents, batch_size, source.held),
        latents,
        lambda: source.frames(batch_size),
        lambda images: _encode_last(model, source, images),
        model.autoencoder.dtype,
        last_piece=len(source.pieces[-1]),
    )
    if source.frame_count > 1 and blend_radius > 0:
        frames = blend_frames(frames, source.frames(batch_size), source.scenes, blend_radius)
    if mask is None:
        return frames
    return composite(frames, source.frames(batch_size), mask.frames.batches(batch_size))


def _encode_last(model: Model, source: Source, images: Frames) -> Tensor:
    """Encode frames of one colour as the last piece of a source.

    For a video model it is the end of a scene that shows nothing else, of at most a few pieces.
    """
    if model.window is not None:
        pieces = min(len(source.held[-1]), _PIECES)
        images = np.repeat(images[-1:], model.autoencoder.frame_count(pieces), axis=0)
    return model.autoencoder.encode(frames_to_tensor(images))[-1:]
