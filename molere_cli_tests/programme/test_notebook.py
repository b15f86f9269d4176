"""The example notebook runs, in a process of its own, and shows what its text promises."""

from __future__ import annotations

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "guide" / "notebook.ipynb"


@pytest.mark.long
@pytest.mark.slow
def test_the_notebook_runs(in_tmp, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    shown = [
        output["data"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "execute_result"
    ]
    printed = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert all(output.output_type == "execute_result" for output in printed), "nothing is printed"
    tables = [data["text/html"] for data in shown if "text/html" in data]
    assert len(tables) == 1
    assert "LRW-Auto" in tables[0]
    assert "of the labels seem to be wrong" in shown[3]["text/plain"]
    kept = nbformat.read(NOTEBOOK, as_version=4)
    assert all(cell.outputs for cell in kept.cells if cell.cell_type == "code"), "it is kept with its outputs"
