"""The Python reference lists every public name, and its examples run one after the other. Those of
the page about Python run each by itself.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
from command import save_frames
from flow_models import save_tiny_sd3

import pnpvideo
from pnpvideo import PnPOptions

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


def test_the_options_methods_are_documented() -> None:
    """With lists of what they take, return and raise."""
    for method in (PnPOptions.at, PnPOptions.override):
        for title in ("Args", "Returns", "Raises"):
            assert f"\n        {title}:\n" in str(method.__doc__)


def test_each_example_runs_by_itself(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With small models, of two steps, in place of those that it names."""
    monkeypatch.chdir(tmp_path)
    Path("samples").symlink_to(PAGE.parents[1] / "samples")
    shutil.copytree(tiny_model, "embedded")
    save_tiny_sd3(Path("sd35"))
    save_frames(Path("small"), 1, 32, 32)
    for model in ("embedded", "sd35"):
        Path(model, "pnp.json").write_text(json.dumps({"options": {"steps": 2}}))
    text = (PAGE.parent / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    assert len(blocks) == 8
    for block in blocks:
        small = re.sub('"(embedded|sd35)"', r'"./\1"', block)
        small = small.replace('rocket.mp4")', 'rocket.mp4", frames=2)')
        small = small.replace('read_clip("samples/teapot.png")', 'read_clip("small/source0.png")')
        small = small.replace("output=", 'model="./embedded", output=')
        exec(compile(small, "python.md", "exec"), {})
    made = {"first.png", "bronze-rocket.mp4", "seed-2.png", "dance-job"}
    assert made <= {path.name for path in tmp_path.iterdir()}
