"""Prefetching in a thread, so that reading, the model and writing overlap."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def read_ahead(items: Iterable[T], depth: int = 2) -> Generator[T, None, None]:
    """Yield the same items in the same order, with up to `depth` of them prepared in advance.

    One thread prepares all items. An exception in it is raised in place of the item. After the
    generator is closed, no further item is started.
    """
    iterator = iter(items)

    def take() -> list[T]:
        return list(islice(iterator, 1))

    with ThreadPoolExecutor(1) as thread:
        pending = deque(thread.submit(take) for _ in range(depth))
        try:
            while next_item := pending.popleft().result():
                pending.append(thread.submit(take))
                yield next_item[0]
        finally:
            for future in pending:
                future.cancel()
