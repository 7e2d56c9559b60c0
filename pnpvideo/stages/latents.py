"""Encodes the frames of a source to clean latents, and decodes latents to frames."""

import logging
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from pnpvideo.clips.clip import Frames
from pnpvideo.models.autoencoder import frames_to_tensor, tensor_to_frames
from pnpvideo.models.batches import Batches, free_memory, is_out_of_memory
from pnpvideo.models.model import Model
from pnpvideo.options.method import PnPOptions
from pnpvideo.sampling.noise import common_noise
from pnpvideo.sampling.noised import noised
from pnpvideo.stages.source import Source
from pnpvideo.storage.trajectory import Held, Trajectory

_log = logging.getLogger(__name__)


def encode(model: Model, source: Source, batch_size: int, span: range | None = None) -> Tensor:
    """Encode all pieces, or a span of them, to clean latents (pieces, c, h, w) on the CPU."""
    span = range(source.piece_count) if span is None else span
    if source.clips is not None:
        batches = Batches(1, _tiles(model))
        scenes = source.clips.within(span)
        works = [partial(_encode_scene, model, source, scene) for scene in scenes]
        return torch.cat([latents for work in works for latents in batches.run(1, work)])
    batches = Batches(batch_size, _tiles(model))
    encoded: list[Tensor] = []
    for first in range(span.start, span.stop, batch_size):
        some = range(first, min(first + batch_size, span.stop))
        encoded += batches.run(len(some), _encoder(model, source, some))
    return torch.cat(encoded)


def _encode_scene(model: Model, source: Source, scene: range, _: slice) -> Tensor:
    """Encode one scene for a video model, a piece at a time."""
    encoder = model.autoencoder.encoder()
    encoded: list[Tensor] = []
    for number in scene:
        images = frames_to_tensor(source.frames_of(range(number, number + 1)))
        encoded.append(encoder(images).to("cpu", model.latent_dtype))
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
    generator = torch.Generator().manual_seed(0)
    eps = common_noise(clean, generator, each=source.clips is not None)
    return noised(source.trajectory, eps, model.schedule(options, source.size))


def decode(
    model: Model, latents: Tensor, batch_size: int, held: Held | None = None
) -> Iterator[Frames]:
    """Decode latents (pieces, c, h, w) to uint8 frames (n, height, width, 3), some at a time.

    held: how many frames each piece holds, scene by scene; by default all that it can, in one
    scene.
    """
    held = held or full_scene(model, len(latents))
    if model.window is not None:
        return _decode_scenes(model, latents, held)
    counts = [count for scene in held for count in scene]

    def decode(part: slice) -> Frames:
        frames = tensor_to_frames(model.autoencoder.decode(latents[part]))
        return frames[: sum(counts[part])]

    return Batches(batch_size, _tiles(model)).run(len(latents), decode)


def full_scene(model: Model, piece_count: int) -> Held:
    """Return how many frames so many pieces hold that are full, and of one scene."""
    scene = range(model.autoencoder.frame_count(piece_count))
    return (tuple(map(len, model.autoencoder.pieces(len(scene), lambda: (scene,)))),)


def _decode_scenes(model: Model, latents: Tensor, held: Held) -> Iterator[Frames]:
    """Decode for a video model, a piece at a time."""
    tiles: Callable[[], None] | None = _tiles(model)
    first = 0
    for counts in held:
        done = 0
        while done < len(counts):
            try:
                decoder = model.autoencoder.decoder()
                # Again from the scene's first piece, if memory ran out in the middle.
                for number, count in enumerate(counts):
                    images = decoder(latents[first + number][None])
                    if number == done:
                        yield tensor_to_frames(images[:count])
                        done += 1
            except (RuntimeError, MemoryError) as error:
                if tiles is None or not is_out_of_memory(error):
                    raise
                cut, tiles = tiles, None
            else:
                continue
            free_memory()
            cut()
        first += len(counts)


def _tiles(model: Model) -> Callable[[], None]:
    """Return the last resort of an autoencoder for which a piece is too large."""

    def cut() -> None:
        _log.warning(
            "there is not enough memory for a whole frame in the autoencoder; it works on "
            "overlapping tiles instead"
        )
        model.autoencoder.use_tiles()

    return cut
