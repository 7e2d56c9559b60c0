"""Keep what the environment says to other programs away from the page."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def own_environment(*, proxies: bool) -> Iterator[None]:
    """Hide Gradio's own variables, which would change what is served, within this context.

    proxies: whether those are seen. Gradio opens HTTP clients when it is imported, which fails for
    proxies that httpx does not support; the page asks nothing of other machines.
    """
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name.startswith("GRADIO_") or (not proxies and name.lower().endswith("_proxy"))
    }
    try:
        yield
    finally:
        os.environ.update(hidden)
