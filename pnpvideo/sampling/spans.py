"""Spans of a source's pieces that are sampled separately, on one machine or on many."""

from collections.abc import Sequence
from itertools import pairwise


def cut_into_spans(piece_count: int, cuts: Sequence[int], count: int) -> tuple[range, ...]:
    """Return all pieces as at most `count` spans of about equal length.

    cuts: the pieces at which a span may begin, ascending.
    """
    wanted = [piece_count * number / count for number in range(1, count)]
    nearest = {min(cuts, key=lambda cut, place=place: abs(cut - place)) for place in wanted}  # type: ignore[misc]
    edges = sorted(nearest | {0, piece_count})
    return tuple(range(first, stop) for first, stop in pairwise(edges))


def widened(span: range, size: int, piece_count: int) -> range:
    """Return a span widened to whole batches of `size` pieces, counted from the first."""
    start, stop = span.start // size * size, -(-span.stop // size) * size
    return range(start, min(stop, piece_count))


def parts(span: range, size: int | None) -> list[range]:
    """Cut pieces into parts of at most this many; None: do not cut them."""
    size = size or len(span)
    return [span[first : first + size] for first in range(0, len(span), max(size, 1))]
