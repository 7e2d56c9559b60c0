"""The notebook of first steps: each cell is run, as a reader runs it."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "docs" / "first-steps.ipynb"


def test_the_notebook_has_its_outputs_and_is_small() -> None:
    assert NOTEBOOK.stat().st_size < 1_000_000
    cells = [
        cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"
    ]
    outputs = [output for cell in cells for output in cell.outputs]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell.outputs for cell in cells)
    assert {output.output_type for output in outputs} == {"execute_result"}
    assert sum("image/png" in output.data for output in outputs) == 4


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    ran = NotebookClient(
        notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [cell.outputs for cell in ran.cells if cell.cell_type == "code"]
    pictures = [one for cell in outputs for one in cell if "image/png" in one.get("data", {})]
    assert len(pictures) == 4
    assert outputs[-1][-1]["data"]["text/plain"] == "(4, (256, 256))"
    assert (tmp_path / "golden-fox.gif").is_file()
