"""Temporal smoothing: each frame is averaged with its neighbours along the source's motion."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Frames, Picture
from pnpvideo.pixels.flow import Flow, find_flow

_COLOUR_TOLERANCE = 0.1 * 255
"""The difference of two source colours at which a neighbour's weight falls to 0.6 (exp(-1/2))."""
_WINDOW = (5, 5)  # pixels over which colours are compared


@dataclass(kw_only=True)
class _FramePair:
    """A frame of the result and of the source, uint8 (height, width, 3), with the motion to the
    previous frame (back) and the next one (ahead): (height, width, 3), x and y in pixels and 1 if
    the motion can be trusted, otherwise 0.
    """

    result: Picture
    source: Picture
    back: NDArray[np.float32] | None = None
    ahead: NDArray[np.float32] | None = None


def blend_frames(
    frames: Iterable[Frames], source: Iterable[Frames], scenes: Sequence[range], radius: int
) -> Iterator[Frames]:
    """Average frames with up to `radius` neighbours on either side, and yield them one by one.

    Flicker averages out, and whatever moves with the source stays. A neighbour at distance d has
    the weight radius + 1 - d. The weight is lower at pixels where the source shows something else:
    if forward and backward flow disagree (Sundaram et al. 2010, "Dense point trajectories by
    GPU-accelerated large displacement optical flow", equation 5), as at occlusions, or if colours
    change. Scenes are not mixed. Single frames, and all frames for radius 0, are unchanged.

    frames: uint8 (n, height, width, 3). source: the source's frames, equal in number and size.
    scenes: the frame numbers of each scene. Only 2 radius + 1 frames are held in memory.
    """
    if radius == 0:
        yield from frames
        return
    results = (frame for batch in frames for frame in batch)
    sources = (frame for batch in source for frame in batch)
    pairs = (
        _FramePair(result=result, source=source)
        for result, source in zip(results, sources, strict=True)
    )
    for scene in scenes:
        yield from _blend_scene(islice(pairs, len(scene)), radius)
    next(pairs, None)  # Raises ValueError if there are more results than source frames.


def _blend_scene(pairs: Iterator[_FramePair], radius: int) -> Iterator[Frames]:
    held: list[_FramePair] = []
    position = 0  # index in `held` of the frame that is blended next
    for pair in pairs:
        if held:
            _add_motion(held[-1], pair)
        held.append(pair)
        if len(held) - position <= radius:
            continue
        yield _blend(held, position, radius)
        if position == radius:
            held.pop(0)
        else:
            position += 1
    for last in range(position, len(held)):
        yield _blend(held, last, radius)


def _add_motion(first: _FramePair, second: _FramePair) -> None:
    """Estimate the motion between two neighbouring frames, and where it can be trusted."""
    height, width = first.source.shape[:2]
    ahead = find_flow(first.source, second.source, width, height)
    back = find_flow(second.source, first.source, width, height)
    first.ahead, second.back = _with_trust(ahead, back), _with_trust(back, ahead)


def _with_trust(flow: Flow, opposite: Flow) -> NDArray[np.float32]:
    returned = _sample(opposite, _pixels(flow) + flow)
    squares = [_square_sum(x) for x in (flow + returned, flow, returned)]
    trust = squares[0] < 0.01 * (squares[1] + squares[2]) + 0.5
    return np.dstack([flow, trust.astype(np.float32)])


def _blend(pairs: list[_FramePair], position: int, radius: int) -> Frames:
    here = pairs[position]
    total = here.result * np.float32(radius + 1)
    weight = np.full((*total.shape[:2], 1), radius + 1, dtype=np.float32)
    start = _pixels(here.source)
    for direction in (-1, 1):
        pixels, trust = start, np.ones(total.shape[:2], np.float32)
        for distance in range(1, radius + 1):
            if not 0 <= position + direction * distance < len(pairs):
                break
            previous, neighbour = (pairs[position + direction * (distance - n)] for n in (1, 0))
            motion = previous.ahead if direction == 1 else previous.back
            assert motion is not None
            step = _sample(motion, pixels)
            pixels = pixels + step[..., :2]
            trust = trust * step[..., 2] * _inside(pixels)
            likeness = _likeness(here.source, _sample(neighbour.source, pixels))
            weight_here = (trust * likeness * (radius + 1 - distance))[..., None]
            total += weight_here * _sample(neighbour.result, pixels, cv2.INTER_CUBIC)
            weight += weight_here
    return np.rint(total / weight).astype(np.uint8)[None]


def _pixels(like: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return the coordinates of every pixel, (height, width, 2), x first."""
    y, x = np.mgrid[: like.shape[0], : like.shape[1]].astype(np.float32)
    return np.dstack([x, y])


def _sample(
    picture: NDArray[np.generic], places: NDArray[np.float32], interpolation: int = cv2.INTER_LINEAR
) -> NDArray[np.float32]:
    sampled = cv2.remap(picture, places, None, interpolation, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled, dtype=np.float32)


def _inside(places: NDArray[np.float32]) -> NDArray[np.bool_]:
    height, width = places.shape[:2]
    x, y = places[..., 0], places[..., 1]
    return np.asarray((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1))


def _likeness(picture: Picture, other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the likeness of two pictures around each pixel, (height, width): 1 if equal, to 0."""
    difference = _square_sum(picture - other) / 3
    return np.asarray(np.exp(cv2.blur(difference, _WINDOW) / (-2 * _COLOUR_TOLERANCE**2)))


def _square_sum(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.einsum("yxc,yxc->yx", vectors, vectors))
