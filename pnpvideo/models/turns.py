"""Turns: threads that share parts of a model use them one after the other."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from diffusers.utils.torch_utils import unwrap_module

# Beside the parts and not in them, as parts are copied and saved.
_locks: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_guard = threading.Lock()


@contextmanager
def turn(*parts: Any) -> Iterator[None]:
    """Keep other threads from using these parts of models within the context.

    A thread may enter again what it holds. None and parts that are given twice are skipped.
    """
    with _guard:
        locks = [
            _locks.setdefault(unwrap_module(part), threading.RLock())
            for part in parts
            if part is not None
        ]
    with ExitStack() as held:
        # All threads take them in the same order, so that no two wait for each other.
        for lock in sorted(set(locks), key=id):
            held.enter_context(lock)
        yield
