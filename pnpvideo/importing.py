"""Imports that do not wait for Python's garbage collector."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection(*, freeze: bool = False) -> Iterator[None]:
    """Pause the garbage collector within the context, for imports of large libraries.

    torch, diffusers and transformers make nearly a million objects, and almost none is garbage. To
    go through them again and again takes a sixth of the time of importing them.
    freeze: also keep later collections from going through all that exists at the end of the
    context, if modules were imported in it. For programs only: nothing of that is ever freed.
    """
    before = len(sys.modules)
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        if freeze and len(sys.modules) > before:
            gc.freeze()
    finally:
        gc.enable()
