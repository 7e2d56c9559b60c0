"""Translate video, frame sequences and images from a text prompt, keeping layout and motion.

The public names are those that `__init__.pyi` imports, where type checkers find them too. Each is
imported when it is first asked for: the command line answers before torch is loaded.
"""

import ast
from importlib import import_module
from pathlib import Path

from pnpvideo.importing import without_collection

__version__ = "0.1.0"

_MODULES = {
    alias.name: str(node.module)
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}
"""By public name: the module that has it."""

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with without_collection():
        value: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
