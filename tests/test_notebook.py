"""The notebook of first steps: each cell is run, as a reader runs it."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def test_every_cell_runs(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    notebook = nbformat.read(ROOT / "docs" / "first-steps.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs for cell in cells)
    ran = NotebookClient(
        notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [cell.outputs for cell in ran.cells if cell.cell_type == "code"]
    pictures = [one for cell in outputs for one in cell if "image/png" in one.get("data", {})]
    assert len(pictures) == 4
    assert outputs[-1][-1]["data"]["text/plain"] == "(4, (256, 256))"
    assert (tmp_path / "golden-fox.gif").is_file()
