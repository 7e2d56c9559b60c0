"""Spans of a clip's frames that are sampled separately, on one machine or on many."""

from collections.abc import Sequence
from itertools import pairwise


def cut_into_spans(frame_count: int, cuts: Sequence[int], count: int) -> tuple[range, ...]:
    """Return all frames as at most `count` spans of about equal length.

    cuts: the frames at which a span may begin, ascending.
    """
    wanted = [frame_count * number / count for number in range(1, count)]
    nearest = {min(cuts, key=lambda cut, place=place: abs(cut - place)) for place in wanted}  # type: ignore[misc]
    edges = sorted(nearest | {0, frame_count})
    return tuple(range(first, stop) for first, stop in pairwise(edges))


def widened(span: range, size: int, frame_count: int) -> range:
    """Return a span widened to whole batches of `size` frames, counted from the clip's first."""
    start, stop = span.start // size * size, -(-span.stop // size) * size
    return range(start, min(stop, frame_count))
