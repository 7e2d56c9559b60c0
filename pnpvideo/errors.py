"""The two kinds of failure that a person can meet. A caller can react to each."""

import contextlib
from collections.abc import Iterator
from typing import Literal


class InputError(ValueError):
    """An input that cannot be used: a file, an option or a model name. Exit code 2.

    The message is one line: what was wrong, then what to do.
    """


class RunError(RuntimeError):
    """Work that failed although the input was fine: full disk, no network. Exit code 1.

    The message is one line: what was wrong, then what to do.
    """


Extra = Literal["eval", "lycoris", "quantize", "distributed", "web"]

EXTRAS: dict[Extra, tuple[str, ...]] = {
    "eval": ("skimage", "scipy", "torchmetrics", "jinja2", "pyarrow"),
    "lycoris": ("lycoris",),
    "quantize": ("bitsandbytes", "torchao"),
    "distributed": ("ray",),
    "web": ("gradio",),
}
"""By extra of the package: the modules that it installs and the package imports."""


@contextlib.contextmanager
def needs(extra: Extra, what: str) -> Iterator[None]:
    """Raise InputError that names the extra if a module that it installs is missing.

    what: what needs the module, as the message begins. Other missing modules are errors as usual.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS[extra]:
            raise
        raise InputError(
            f'{what} needs {module}; install it with: pip install "pnpvideo[{extra}]"'
        ) from None
