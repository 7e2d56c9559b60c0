"""Work done ahead in a thread, so that reading, the model and writing overlap."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def read_ahead(items: Iterable[T], depth: int = 2) -> Generator[T, None, None]:
    """The same items in the same order, up to `depth` of them made before they are asked for.

    All are made by one thread. What it raises is raised where the item would have come. When the
    generator is closed, no further item is begun.
    """
    iterator = iter(items)

    def take() -> list[T]:
        return list(islice(iterator, 1))

    with ThreadPoolExecutor(1) as thread:
        pending = deque(thread.submit(take) for _ in range(depth))
        try:
            while taken := pending.popleft().result():
                pending.append(thread.submit(take))
                yield taken[0]
        finally:
            for future in pending:
                future.cancel()
