"""Spans of a clip's frames that are sampled one by one, on one machine or on many."""

from collections.abc import Sequence
from itertools import pairwise


def cut_into_spans(frame_count: int, cuts: Sequence[int], count: int) -> tuple[range, ...]:
    """All frames in at most `count` spans of about one length.

    cuts: the frames that may be the first of a span, ascending.
    """
    wanted = [frame_count * number / count for number in range(1, count)]
    nearest = {min(cuts, key=lambda cut, place=place: abs(cut - place)) for place in wanted}  # type: ignore[misc]
    edges = sorted(nearest | {0, frame_count})
    return tuple(range(first, stop) for first, stop in pairwise(edges))


def widened(span: range, size: int, frame_count: int) -> range:
    """The whole batches of so many frames, counted from the clip's first, that hold a span."""
    start, stop = span.start // size * size, -(-span.stop // size) * size
    return range(start, min(stop, frame_count))
