"""The notebooks run from their first cell to their last, at a reduced size."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


@dataclass(frozen=True)
class Expected:
    """What one notebook is reduced to, and what it leaves."""

    reduced: dict[str, int]  # the parameters of its first code cell
    pictures: int
    files: tuple[str, ...] = ()


EXPECTED = {
    "quickstart": Expected(
        {"steps": 2},
        2,  # the front, and the photo beside what was decoded
        tuple(
            f"quickstart-run/{name}"
            for name in (
                "run/front.csv",
                "run/report.html",
                "photo.nic",
                "decoded.png",
                "mine-codec/codec.yaml",
            )
        ),
    ),
    "front": Expected({"trials": 2}, 1, ("front-run/front.csv",)),
    "layouts": Expected({}, 2),
    "own-space": Expected({}, 0),
    "deploy": Expected({"trials": 4}, 1, ("deploy-run/photo.nic", "deploy-run/photo.png")),
    "rates": Expected({}, 1, ("rates-run/codec/codec.yaml",)),
}


def reduced(source: str, values: dict[str, int]) -> str:
    """The parameters' cell with other numbers; each must be there, once."""
    for name, value in values.items():
        source, count = re.subn(rf"^{name} = \d+", f"{name} = {value}", source, flags=re.MULTILINE)
        assert count == 1, f"the first code cell does not set {name}"
    return source


def test_every_notebook_is_run():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_notebooks_are_committed_without_outputs(name):
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_notebooks_run(name, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    expected = EXPECTED[name]
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    cells[0].source = reduced(cells[0].source, expected.reduced)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    for file in expected.files:
        assert (tmp_path / file).is_file()
    assert sum("image/png" in output.get("data", {}) for output in outputs) == expected.pictures
