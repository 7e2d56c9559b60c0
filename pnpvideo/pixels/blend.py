"""Results steadied in time: each frame averaged with its neighbours along the source's motion."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Frames
from pnpvideo.pixels.flow import Flow, find_flow

_UNLIKE = 0.1 * 255
"""The difference of two source colours at which a neighbour counts 0.6 of what it would."""
_AROUND = (5, 5)


@dataclass(kw_only=True)
class _Moment:
    """A frame of the result and of the source, uint8 (height, width, 3), with the motion to the
    frame before (back) and after (ahead): (height, width, 3), the last value being its trust.
    """

    result: Frames
    source: Frames
    back: NDArray[np.float32] | None = None
    ahead: NDArray[np.float32] | None = None


def blend_frames(
    frames: Iterable[Frames], source: Iterable[Frames], scenes: Sequence[range], radius: int
) -> Iterator[Frames]:
    """Frames averaged with up to `radius` neighbours on either side; as many come out, one by one.

    What flickers from frame to frame averages out, and what moves with the source stays. A
    neighbour at distance d weighs radius + 1 - d; less where the source does not show the same
    there: where flow and backward flow disagree (Sundaram et al. 2010, "Dense point trajectories by
    GPU-accelerated large displacement optical flow", equation 5), so behind what moves away, and
    where colours change. Scenes are not mixed. Single frames and radius 0 stay as they are.

    frames: uint8 (n, height, width, 3). source: as many frames of the source in the same size;
    scenes: their numbers in each. Only 2 radius + 1 frames are held.
    """
    if radius == 0:
        yield from frames
        return
    results = (frame for batch in frames for frame in batch)
    sources = (frame for batch in source for frame in batch)
    moments = (
        _Moment(result=result, source=source)
        for result, source in zip(results, sources, strict=True)
    )
    for scene in scenes:
        yield from _blend_scene(islice(moments, len(scene)), radius)
    next(moments, None)  # Raises where there are more results than frames of the source.


def _blend_scene(moments: Iterator[_Moment], radius: int) -> Iterator[Frames]:
    held: list[_Moment] = []
    place = 0  # in `held`, of the frame that is blended next
    for moment in moments:
        if held:
            _join(held[-1], moment)
        held.append(moment)
        if len(held) - place <= radius:
            continue
        yield _blend(held, place, radius)
        if place == radius:
            held.pop(0)
        else:
            place += 1
    for last in range(place, len(held)):
        yield _blend(held, last, radius)


def _join(one: _Moment, other: _Moment) -> None:
    """Find the motion between two neighbouring frames, and where it can be trusted."""
    height, width = one.source.shape[:2]
    ahead = find_flow(one.source, other.source, width, height)
    back = find_flow(other.source, one.source, width, height)
    one.ahead, other.back = _with_trust(ahead, back), _with_trust(back, ahead)


def _with_trust(flow: Flow, opposite: Flow) -> NDArray[np.float32]:
    returned = _sample(opposite, _pixels(flow) + flow)
    squares = [_square_sum(x) for x in (flow + returned, flow, returned)]
    trust = squares[0] < 0.01 * (squares[1] + squares[2]) + 0.5
    return np.dstack([flow, trust.astype(np.float32)])


def _blend(moments: list[_Moment], place: int, radius: int) -> Frames:
    here = moments[place]
    total = here.result * np.float32(radius + 1)
    weight = np.full((*total.shape[:2], 1), radius + 1, dtype=np.float32)
    start = _pixels(here.source)
    for direction in (-1, 1):
        pixels, trust = start, np.ones(total.shape[:2], np.float32)
        for distance in range(1, radius + 1):
            if not 0 <= place + direction * distance < len(moments):
                break
            before, there = (moments[place + direction * (distance - n)] for n in (1, 0))
            motion = before.ahead if direction == 1 else before.back
            assert motion is not None
            step = _sample(motion, pixels)
            pixels = pixels + step[..., :2]
            trust = trust * step[..., 2] * _inside(pixels)
            alike = _likeness(here.source, _sample(there.source, pixels))
            share = (trust * alike * (radius + 1 - distance))[..., None]
            total += share * _sample(there.result, pixels, cv2.INTER_CUBIC)
            weight += share
    return np.rint(total / weight).astype(np.uint8)[None]


def _pixels(like: NDArray[np.generic]) -> NDArray[np.float32]:
    """The place of every pixel, (height, width, 2), x first."""
    y, x = np.mgrid[: like.shape[0], : like.shape[1]].astype(np.float32)
    return np.dstack([x, y])


def _sample(
    picture: NDArray[np.generic], places: NDArray[np.float32], how: int = cv2.INTER_LINEAR
) -> NDArray[np.float32]:
    sampled = cv2.remap(picture, places, None, how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled, dtype=np.float32)


def _inside(places: NDArray[np.float32]) -> NDArray[np.bool_]:
    height, width = places.shape[:2]
    x, y = places[..., 0], places[..., 1]
    return np.asarray((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1))


def _likeness(one: Frames, other: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 where two pictures are the same around a pixel, 0 where they differ much."""
    difference = _square_sum(one - other) / 3
    return np.asarray(np.exp(cv2.blur(difference, _AROUND) / (-2 * _UNLIKE**2)))


def _square_sum(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.einsum("yxc,yxc->yx", vectors, vectors))
