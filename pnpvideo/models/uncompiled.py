"""Compiled networks, which run uncompiled while the method changes their layers."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from diffusers.utils.torch_utils import unwrap_module

_log = logging.getLogger(__name__)

_reported: WeakSet[Any] = WeakSet()
"""The compiled networks that a line has been logged for."""


@contextmanager
def uncompiled(*networks: Any) -> Iterator[None]:
    """Run networks, and all modules in them, as Python within the context.

    Compiled code does not see that hooks are added and removed, and would be compiled again for
    each change of an attention processor. None is skipped.
    """
    present = [network for network in networks if network is not None]
    modules = [module for network in present for module in network.modules()]
    compiled = {module: module._compiled_call_impl for module in modules}
    for network in present:
        _report_compiled(network)
    try:
        for module in modules:
            module._compiled_call_impl = None
        yield
    finally:
        for module, call in compiled.items():
            module._compiled_call_impl = call


def _report_compiled(network: Any) -> None:
    """Log once for a network that it is compiled, and runs without that here."""
    plain = unwrap_module(network)
    is_compiled = plain is not network or any(m._compiled_call_impl for m in plain.modules())
    if is_compiled and plain not in _reported:
        _reported.add(plain)
        _log.info("%s runs uncompiled here, as the method changes its layers", type(plain).__name__)
