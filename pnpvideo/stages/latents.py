"""Encodes the frames of a source to clean latents, and decodes latents to frames."""

import logging
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from pnpvideo.clips.clip import Frames
from pnpvideo.models.autoencoder import frames_to_tensor, tensor_to_frames
from pnpvideo.models.batches import Batches
from pnpvideo.models.model import Model
from pnpvideo.options.method import PnPOptions
from pnpvideo.sampling.noise import common_noise
from pnpvideo.sampling.noised import noised
from pnpvideo.stages.source import Source
from pnpvideo.storage.trajectory import Trajectory

_log = logging.getLogger(__name__)


def encode(model: Model, source: Source, batch_size: int, span: range | None = None) -> Tensor:
    """Encode all pieces, or a span of them, to clean latents (pieces, c, h, w) on the CPU."""
    span = range(source.piece_count) if span is None else span
    batches = Batches(batch_size, _tiles(model))
    encoded: list[Tensor] = []
    for first in range(span.start, span.stop, batch_size):
        some = range(first, min(first + batch_size, span.stop))
        encoded += batches.run(len(some), _encoder(model, source, some))
    return torch.cat(encoded)


def _encoder(model: Model, source: Source, pieces: range) -> Callable[[slice], Tensor]:
    """Return a function that encodes a part of some pieces, whose frames are read once."""
    images = frames_to_tensor(source.frames_of(pieces))
    holds = source.pieces[pieces.start : pieces.stop]

    def encode(part: slice) -> Tensor:
        first, stop = holds[part][0].start, holds[part][-1].stop
        own = images[first - holds[0].start : stop - holds[0].start]
        return model.autoencoder.encode(own).to("cpu", model.latent_dtype)

    return encode


def at_all_levels(model: Model, source: Source, options: PnPOptions) -> Trajectory:
    """Return a source's latents at all noise levels: inverted, or with noise if it is not inverted.

    The noise is the same whatever the seed, so that what is read there stays the same.
    """
    if options.inverts:
        return source.trajectory
    clean = source.trajectory.clean.to(model.latent_dtype)
    eps = common_noise(clean, torch.Generator().manual_seed(0))
    return noised(source.trajectory, eps, model.schedule(options, source.size))


def decode(
    model: Model, latents: Tensor, batch_size: int, pieces: Sequence[range] | None = None
) -> Iterator[Frames]:
    """Decode latents (pieces, c, h, w) to uint8 frames (n, height, width, 3), a batch at a time.

    pieces: the frames that each piece holds; by default every piece is full.
    """

    def decode(part: slice) -> Frames:
        frames = tensor_to_frames(model.autoencoder.decode(latents[part]))
        return frames if pieces is None else frames[: sum(map(len, pieces[part]))]

    return Batches(batch_size, _tiles(model)).run(len(latents), decode)


def _tiles(model: Model) -> Callable[[], None]:
    """Return the last resort of an autoencoder for which a piece is too large."""

    def cut() -> None:
        _log.warning(
            "there is not enough memory for a whole frame in the autoencoder; it works on "
            "overlapping tiles instead"
        )
        model.autoencoder.use_tiles()

    return cut
