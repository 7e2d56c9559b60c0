"""Extras: a missing module is one line that names the extra to install."""

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

from pnpvideo.errors import EXTRAS, Extra, InputError, needs

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


@pytest.mark.parametrize(
    ("extra", "module", "message"),
    [
        ("eval", "jinja2", 'it needs jinja2; install it with: pip install "pnpvideo[eval]"'),
        ("eval", "skimage.metrics", 'it needs skimage; install it with: pip install "pnpvideo[ev'),
        ("eval", "torchmetrics", "it needs torchmetrics"),
        ("lycoris", "lycoris.modules", 'pip install "pnpvideo[lycoris]"'),
        ("quantize", "torchao.quantization", 'pip install "pnpvideo[quantize]"'),
        ("distributed", "ray", 'pip install "pnpvideo[distributed]"'),
        ("web", "gradio", 'it needs gradio; install it with: pip install "pnpvideo[web]"'),
        # What another extra installs, or none: an error of the program, not of the user.
        ("eval", "gradio", None),
        ("web", "jinja2", None),
        ("distributed", "raymond", None),
        ("eval", "pnpvideo.nothing", None),
        ("eval", "torch", None),
    ],
)
def test_a_missing_module(extra: Extra, module: str, message: str | None) -> None:
    missing = ModuleNotFoundError(f"No module named {module!r}", name=module)
    with pytest.raises((InputError, ModuleNotFoundError)) as raised, needs(extra, "it"):
        raise missing
    if message is None:
        assert raised.value is missing
    else:
        assert isinstance(raised.value, InputError)
        assert message in str(raised.value)


def test_an_import_that_fails_for_real() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), needs("eval", "it"):
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401
    with needs("eval", "it"):
        import jinja2  # noqa: F401


def test_the_modules_of_extras_are_those_of_the_project() -> None:
    declared = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    for extra, modules in EXTRAS.items():
        wanted = declared["optional-dependencies"][extra]
        names = [re.split(r"[<>=]", requirement)[0] for requirement in wanted]
        assert len(names) == len(modules)
        for name, module in zip(names, modules, strict=True):
            files = distribution(name).files or ()
            assert any(file.parts[0] in (module, f"{module}.py") for file in files), module
