"""Items made ahead: their order, their number, and errors."""

import threading
from collections.abc import Iterator

import pytest

from pnpvideo.clips.read_ahead import read_ahead


def counted(count: int, made: list[int]) -> Iterator[int]:
    """Numbers from 0 on; those made so far are in `made`."""
    for number in range(count):
        made.append(number)
        yield number


def test_the_order_stays_and_no_more_than_depth_are_made_ahead() -> None:
    made: list[int] = []
    for expected, item in enumerate(read_ahead(counted(50, made), depth=3)):
        assert item == expected
        assert len(made) <= expected + 1 + 3
    assert made == list(range(50))


def test_items_are_made_in_another_thread() -> None:
    threads = set(read_ahead(threading.get_ident() for _ in range(5)))
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_an_error_comes_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise OSError("the disk is gone")

    ahead = read_ahead(items(), depth=4)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(ahead)


def test_closing_begins_nothing_more() -> None:
    made: list[int] = []
    ahead = read_ahead(counted(1000, made), depth=2)
    assert next(ahead) == 0
    ahead.close()
    assert len(made) <= 4


@pytest.mark.parametrize("count", [0, 1])
def test_short_ones(count: int) -> None:
    assert list(read_ahead(range(count))) == list(range(count))
