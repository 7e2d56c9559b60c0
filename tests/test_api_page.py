"""The Python reference lists every public name, and its examples run one after the other."""

import re
import shutil
from pathlib import Path

import pytest

import pnpvideo

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


def test_every_public_name_is_on_the_page_with_an_example() -> None:
    text = PAGE.read_text(encoding="utf-8")
    entries = re.split(r"^::: ", text, flags=re.MULTILINE)[1:]
    shown = {entry.split()[0].rpartition(".")[2]: entry for entry in entries}
    assert set(pnpvideo.__all__) <= set(shown)
    assert {"__call__", "from_pretrained", "StepCallback"} <= set(shown)
    for name in pnpvideo.__all__:
        # `translate` has its example at the top of the page.
        assert "```python" in shown[name] or name == "translate", name


@pytest.mark.slow
def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(PAGE.parents[1] / "samples", tmp_path / "samples")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    made = {"teapot.png", "jade.png", "jade-mask.png", "again.png", "golden.png", "rocket.gif"}
    assert made <= {path.name for path in tmp_path.iterdir()}
