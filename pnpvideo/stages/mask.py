"""Finds the part of a source that is edited, for its frames and for its latents."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import tee

import torch
from torch import Tensor

from pnpvideo.models.model import Control, Model, words_of
from pnpvideo.options.method import PnPOptions
from pnpvideo.pixels.carry_mask import carry_mask
from pnpvideo.pixels.cut_out_maps import Maps, NamedMaps, mask_of_maps
from pnpvideo.pixels.mask import Area, Weights, feathered, mask_frames, weights_of
from pnpvideo.pixels.resize import resize_frames
from pnpvideo.pixels.show_mask import percent
from pnpvideo.sampling.find_named import named_maps, parts_of
from pnpvideo.sampling.keep_outside import latent_weights
from pnpvideo.stages.latents import at_all_levels
from pnpvideo.stages.source import Source
from pnpvideo.storage.frame_store import FrameStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Mask:
    """The part of a source that is edited.

    frames: `Weights` of all frames at the working size, feathered. latents: the weights of its
    latents, (pieces, 1, h, w), 0 to 1; 1 is edited.
    """

    frames: FrameStore
    latents: Tensor


def find_mask(
    model: Model,
    source: Source,
    options: PnPOptions,
    *,
    batch_size: int,
    control: Control | None = None,
) -> Mask | None:
    """Find the part that the source's area says; None if all is edited.

    The source is inverted; control: what a ControlNet followed in that. InputError if the area is
    named by a text that names nothing in the source.
    """
    area = source.area
    if area is None:
        return None
    store = source.store()
    try:
        whole, cut = tee(_weights(model, source, area, options, batch_size, control))
        # Both are read batch by batch: what is stored of one is measured of the other.
        kept = store.write_all(feathered(batch, area.feather) for batch in cut)
        both = (batch for batch, _ in zip(whole, kept, strict=True))
        by_frame = latent_weights(both, model.autoencoder.factor)
        if area.mask is None:
            edited = [float((some > 0).mean()) for some in store.batches(1)]
            share = percent(sum(edited) / len(edited))
            _log.info("the mask covers %s of the picture (%s)", share, area.named)
    except BaseException:
        store.close()
        raise
    latents = torch.stack([by_frame[piece.start : piece.stop].amax(0) for piece in source.pieces])
    return Mask(frames=store, latents=latents)


def _weights(
    model: Model,
    source: Source,
    area: Area,
    options: PnPOptions,
    batch_size: int,
    control: Control | None,
) -> Iterator[Weights]:
    """Return which pixels of each frame are edited, some frames at a time."""
    if area.mask is None:
        pixels = _find_named(model, source, area.named, options, batch_size, control)
    elif area.moves and len(area.mask) == 1:
        (first,) = resize_frames(weights_of(area.mask.read(0, 1)), *source.size)
        pixels = carry_mask(first, source.frames(batch_size), source.scenes)
    else:
        pixels = mask_frames(area.mask, source.frame_count, source.size, batch_size)
    return (255 - batch for batch in pixels) if area.inverted else pixels


def _find_named(
    model: Model,
    source: Source,
    name: str,
    options: PnPOptions,
    batch_size: int,
    control: Control | None,
) -> Iterator[Weights]:
    """Find where each frame shows what a text names, some frames at a time."""
    text, words = model.encode_texts([name], options.clip_skip), words_of(model, name)
    counts = torch.tensor([len(piece) for piece in source.pieces])
    parts = parts_of(source.piece_count, batch_size, source.clips)
    trajectory = at_all_levels(model, source, options)
    with model.network(control) as network:
        maps = named_maps(
            network, trajectory, text, words, batch_size=batch_size, scenes=source.clips
        )
        by_frame = (
            NamedMaps(direct=_by_frame(direct, held), spread=_by_frame(spread, held))
            for (direct, spread), held in zip(
                maps, (counts[part.start : part.stop] for part in parts), strict=True
            )
        )
        yield from mask_of_maps(by_frame, map(source.frames_of, parts), name, source.scenes)


def _by_frame(maps: Tensor, counts: Tensor) -> Maps:
    """Return the maps of pieces as those of their frames. counts: the frames of each piece."""
    repeated: Maps = maps.repeat_interleave(counts, dim=0).numpy()
    return repeated
