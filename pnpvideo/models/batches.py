"""Batches that fit the memory: halved when it is not enough, without losing what is done."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

T = TypeVar("T")


def is_out_of_memory(error: BaseException) -> bool:
    # PyTorch has a class of its own for the memory of accelerators only.
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def free_memory() -> None:
    """Give back what a failed batch had taken of an accelerator's memory."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Batches:
    """Batches of `size` frames; the size is halved for good when memory runs out.

    No result may depend on how frames are divided: a batch that failed is done again in halves.
    last_resort: called once, if a single frame does not fit, before another try.
    """

    def __init__(self, size: int, last_resort: Callable[[], None] | None = None) -> None:
        self.size = size
        self.last_resort = last_resort

    def run(self, count: int, work: Callable[[slice], T]) -> Iterator[T]:
        """Yield the results of `work` on items 0 to count - 1, a batch at a time and in order.

        Raises what `work` raises, and running out of memory only if even one item is too much.
        """
        start = 0
        while start < count:
            part = slice(start, min(start + self.size, count))
            try:
                result = work(part)
            except (RuntimeError, MemoryError) as error:
                single = part.stop - start == 1
                if not is_out_of_memory(error) or (single and self.last_resort is None):
                    raise
                self.size = (part.stop - start + 1) // 2
            else:
                yield result
                start = part.stop
                continue
            # Outside of the handler, which holds on to all that the failed batch had made.
            free_memory()
            if single and self.last_resort is not None:
                self.last_resort()
                self.last_resort = None
