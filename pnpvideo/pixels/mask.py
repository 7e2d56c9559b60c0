"""Masks of the part of a clip that is edited: white is edited, black keeps the source.

GrabCut (Rother et al. 2004) segments an object by a picture's colours and edges.
"""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Clip, Frames, Picture
from pnpvideo.errors import InputError
from pnpvideo.options.mask import DEFAULT_FEATHER, MaskOptions
from pnpvideo.pixels.mask_values import NEAR_BLACK, NEAR_WHITE, white_and_black
from pnpvideo.pixels.resize import resize_frames

Weights = NDArray[np.uint8]
"""Weights of shape (count, height, width): 0 for the source, 255 for the result."""


@dataclass(frozen=True, kw_only=True)
class Area:
    """The part of a source that is edited; outside, the result is the source itself.

    mask: of the source's size; one frame for all, or one for each source frame. None: the part
        that shows the object that `named` names.
    moves: whether a mask of one frame moves with the source, from its first frame on.
    inverted: whether the other part is edited.
    feather: pixels at the working size (see `feathered`).
    """

    mask: Clip | None = None
    named: str = ""
    moves: bool = False
    inverted: bool = False
    feather: int = DEFAULT_FEATHER

    @classmethod
    def of(cls, mask: Clip | None, options: MaskOptions) -> "Area | None":
        """Return the area, or None to edit everything.

        mask: as it was read; `white_and_black` says what its values mean. InputError if options
        conflict or the mask cannot be used.
        """
        options.check_use(mask is not None)
        if options.mask_motion and mask is not None and len(mask) > 1:
            raise InputError(
                f"mask_motion moves a mask of one frame, and this mask has {len(mask)}; give "
                "only the first frame, or omit mask_motion"
            )
        if mask is None and options.mask_from_prompt is None:
            return None
        return cls(
            mask=None if mask is None else white_and_black(mask, options.mask_label),
            named=options.mask_from_prompt or "",
            moves=options.mask_motion,
            inverted=options.invert_mask,
            feather=options.mask_feather,
        )


def check_mask(mask: Clip, size: tuple[int, int], count: int) -> None:
    """Raise InputError unless a mask fits a source of this (width, height) and frame count.

    The mask must not be all black or all white.
    """
    check_mask_size(mask, size, count)
    white = black = False
    for frames in mask.batches(8):
        weights = weights_of(frames)
        white, black = white or bool(weights.any()), black or bool((weights < 255).any())
        if white and black:
            return
    colour, edited = ("white", "all") if white else ("black", "nothing")
    alpha_note = " (transparent pixels count as black)" if mask.has_alpha else ""
    raise InputError(
        f"the mask is {colour} everywhere{alpha_note}, so {edited} would be edited; paint "
        "the part to edit white and the rest black"
    )


def check_mask_size(mask: Clip, size: tuple[int, int], count: int) -> None:
    """Raise InputError unless a mask has a source's (width, height), and 1 or all of its frames."""
    if (mask.width, mask.height) != size:
        raise InputError(
            f"the mask has {mask.width}x{mask.height} pixels and the source "
            f"{size[0]}x{size[1]}; give a mask of the same size"
        )
    if len(mask) not in (1, count):
        raise InputError(
            f"the mask has {len(mask)} frames and the source {count}; give {count} frames, or 1 "
            "for all"
        )


def check_feather(area: Area | None, size: tuple[int, int]) -> None:
    """Raise InputError if the feather is wider than half of the shorter side of (width, height)."""
    most = min(size) // 2
    if area is not None and area.feather > most:
        raise InputError(
            f"mask_feather is {area.feather}; give at most {most}, half of the shorter side of "
            f"the working size {size[0]}x{size[1]}"
        )


def weights_of(frames: Frames) -> Weights:
    """Return the brightness of frames (n, height, width, 3), with near black and white clipped."""
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
    scaled = (grey.astype(np.float32) - NEAR_BLACK) * (255 / (NEAR_WHITE - NEAR_BLACK))
    weights: Weights = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return weights


def mask_frames(
    mask: Clip, count: int, size: tuple[int, int], batch_size: int
) -> Iterator[Weights]:
    """Yield the weights of `count` frames at (width, height); a single mask frame is repeated."""
    if len(mask) == 1:
        (still,) = resize_frames(weights_of(mask.read(0, 1)), *size)
        yield from (still[np.newaxis] for _ in range(count))
        return
    for frames in mask.batches(batch_size):
        yield resize_frames(weights_of(frames), *size)


def feathered(weights: Weights, feather: int) -> Weights:
    """Return weights that grow inwards from the edge of the edited part, over `feather` pixels.

    So outside, every pixel stays the source's.
    """
    if feather == 0:
        return weights
    return np.stack([_feathered(frame_weights, feather) for frame_weights in weights])


def _feathered(weights: Weights, feather: int) -> Weights:
    if weights.all():  # There is no edge to measure from.
        return weights
    distance = cv2.distanceTransform((weights > 0).astype(np.uint8), cv2.DIST_L2, 5)
    share = np.minimum(distance / (feather + 1), 1)
    return np.asarray(np.rint(weights * share), np.uint8)


def composite(
    frames: Iterable[Frames], source: Iterable[Frames], weights: Iterable[Weights]
) -> Iterator[Frames]:
    """Blend frames over the source's by weights; yield them one by one. All have one size."""
    triples = zip(*map(_single_frames, (frames, source, weights)), strict=True)
    for frame, below, weight in triples:
        share = weight[..., np.newaxis].astype(np.float32) / 255
        mixed = below + share * (frame.astype(np.float32) - below)
        yield np.rint(mixed).astype(np.uint8)[np.newaxis]


def within(weights: Iterable[Weights], area: Area, count: int) -> Generator[Weights]:
    """Yield weights at the size of an area's mask, set to 0 outside it; one by one.

    Weights of another size may have come to lie beyond its edge. The area is one that stays.
    """
    assert area.mask is not None
    size = area.mask.width, area.mask.height
    masks = _single_frames(mask_frames(area.mask, count, size, batch_size=8))
    for weight, mask in zip(_single_frames(weights), masks, strict=True):
        yield np.where(mask == (255 if area.inverted else 0), np.uint8(0), weight)[np.newaxis]


def _single_frames(batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    return (frame for batch in batches for frame in batch)


def cut_out(
    frame: Picture, likely: NDArray[np.bool_], sure: NDArray[np.bool_], *, iterations: int
) -> NDArray[np.bool_]:
    """Return the pixels of a frame (height, width, 3) that show an object, (height, width).

    likely: the pixels that probably show it, neither none nor all. sure: the pixels where `likely`
    is final.
    """
    states = np.where(likely, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    states[sure & likely] = cv2.GC_FGD
    states[sure & ~likely] = cv2.GC_BGD
    cv2.setRNGSeed(0)
    unused, background, inner = (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65))
    picture = np.ascontiguousarray(frame)
    cv2.grabCut(picture, states, unused, background, inner, iterations, cv2.GC_INIT_WITH_MASK)
    return np.asarray((states == cv2.GC_FGD) | (states == cv2.GC_PR_FGD))
