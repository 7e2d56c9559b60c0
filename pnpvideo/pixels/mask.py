"""Which part of a clip is edited: white in a mask, black where the source stays.

A thing is cut out along a picture's colours and edges by GrabCut (Rother et al. 2004).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Clip, Frames
from pnpvideo.errors import InputError
from pnpvideo.options.mask import DEFAULT_FEATHER, MaskOptions
from pnpvideo.pixels.resize import resize_frames

Weights = NDArray[np.uint8]
"""Of shape (count, height, width): 0 the source, 255 the result."""

# What lossy formats make of black and white is still black and white.
_BLACK, _WHITE = 32, 223


@dataclass(frozen=True, kw_only=True)
class Area:
    """The part of a source that is edited; elsewhere the result is the source itself.

    mask: of the source's size; one frame for all, or as many as the source has. None: the part
        that shows what `named` names.
    moves: a mask of one frame moves with the source, from its first frame on.
    inverted: the other part is edited.
    feather: pixels of the working size (see `feathered`).
    """

    mask: Clip | None = None
    named: str = ""
    moves: bool = False
    inverted: bool = False
    feather: int = DEFAULT_FEATHER

    @classmethod
    def of(cls, mask: Clip | None, options: MaskOptions) -> "Area | None":
        """None where all is edited. InputError for options that do not go together."""
        options.check_use(mask is not None)
        if options.mask_motion and mask is not None and len(mask) > 1:
            raise InputError(
                f"mask_motion moves a mask of one frame, and this one has {len(mask)}; give the "
                "first one alone, or leave mask_motion out"
            )
        if mask is None and options.mask_from_prompt is None:
            return None
        return cls(
            mask=mask,
            named=options.mask_from_prompt or "",
            moves=options.mask_motion,
            inverted=options.invert_mask,
            feather=options.mask_feather,
        )


def check_mask(mask: Clip, size: tuple[int, int], count: int) -> None:
    """InputError unless a mask fits a source of this (width, height) and number of frames.

    Nor may it be all black or all white.
    """
    if (mask.width, mask.height) != size:
        raise InputError(
            f"the mask has {mask.width}x{mask.height} pixels and the source "
            f"{size[0]}x{size[1]}; give one of the same size"
        )
    if len(mask) not in (1, count):
        raise InputError(
            f"the mask has {len(mask)} frames and the source {count}; give as many, or one for all"
        )
    white = black = False
    for frames in mask.batches(8):
        weights = weights_of(frames)
        white, black = white or bool(weights.any()), black or bool((weights < 255).any())
        if white and black:
            return
    colour, what = ("white", "all") if white else ("black", "nothing")
    seen = ", what is transparent in it being black" if mask.has_alpha else ""
    raise InputError(
        f"the mask is {colour} everywhere{seen}, so {what} would be edited; paint what is to be "
        "edited white and the rest black"
    )


def check_feather(area: Area | None, size: tuple[int, int]) -> None:
    """InputError where the edit would set in over more pixels than a (width, height) has."""
    most = min(size) // 2
    if area is not None and area.feather > most:
        raise InputError(
            f"mask_feather is {area.feather}; give at most {most}, half of the shorter side, as "
            f"the source is worked on at {size[0]}x{size[1]}"
        )


def weights_of(frames: Frames) -> Weights:
    """The brightness of a mask's frames (n, height, width, 3), with black and white made clear."""
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
    scaled = (grey.astype(np.float32) - _BLACK) * (255 / (_WHITE - _BLACK))
    weights: Weights = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return weights


def mask_frames(
    mask: Clip, count: int, size: tuple[int, int], batch_size: int
) -> Iterator[Weights]:
    """The weights of so many frames at (width, height), some at a time; one frame is for all."""
    if len(mask) == 1:
        (still,) = resize_frames(weights_of(mask.read(0, 1)), *size)
        yield from (still[np.newaxis] for _ in range(count))
        return
    for frames in mask.batches(batch_size):
        yield resize_frames(weights_of(frames), *size)


def feathered(weights: Weights, feather: int) -> Weights:
    """Weights that grow from the edge of what is edited inward, over so many pixels.

    So what is outside stays the source to the last pixel.
    """
    if feather == 0:
        return weights
    return np.stack([_feathered(one, feather) for one in weights])


def _feathered(weights: Weights, feather: int) -> Weights:
    if weights.all():  # There is no edge to measure from.
        return weights
    distance = cv2.distanceTransform((weights > 0).astype(np.uint8), cv2.DIST_L2, 5)
    share = np.minimum(distance / (feather + 1), 1)
    return np.asarray(np.rint(weights * share), np.uint8)


def composite(
    frames: Iterable[Frames], source: Iterable[Frames], weights: Iterable[Weights]
) -> Iterator[Frames]:
    """Frames over the source's, as weights say; one by one, all being of one size."""
    triples = zip(*map(_each, (frames, source, weights)), strict=True)
    for frame, below, weight in triples:
        share = weight[..., np.newaxis].astype(np.float32) / 255
        mixed = below + share * (frame.astype(np.float32) - below)
        yield np.rint(mixed).astype(np.uint8)[np.newaxis]


def _each(batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    return (one for batch in batches for one in batch)


def cut_out(
    frame: Frames, likely: NDArray[np.bool_], sure: NDArray[np.bool_], *, iterations: int
) -> NDArray[np.bool_]:
    """Where a frame (height, width, 3) shows a thing, (height, width).

    likely: where it is thought to be, not nowhere nor everywhere. sure: where that is not decided
    anew.
    """
    states = np.where(likely, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    states[sure & likely] = cv2.GC_FGD
    states[sure & ~likely] = cv2.GC_BGD
    cv2.setRNGSeed(0)
    unused, background, inner = (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65))
    picture = np.ascontiguousarray(frame)
    cv2.grabCut(picture, states, unused, background, inner, iterations, cv2.GC_INIT_WITH_MASK)
    return np.asarray((states == cv2.GC_FGD) | (states == cv2.GC_PR_FGD))
