"""Every notebook runs from top to bottom, uses the library, and defines nothing of its own."""

import ast
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.rglob("*.ipynb"))

named = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@named
def test_it_imports_from_dvae_and_defines_nothing(path):
    tree = ast.parse("\n".join(cell.source for cell in code_of(read(path))))
    nodes = list(ast.walk(tree))
    imported = {node.module.split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    assert "dvae" in imported
    defined = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    assert not [node.name for node in nodes if isinstance(node, defined)]


@named
def test_it_is_committed_with_its_outputs(path):
    cells = code_of(read(path))
    # Run once, from top to bottom.
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any("image/png" in output.get("data", {}) for c in cells for output in c.outputs)
    assert path.stat().st_size < 500_000


@pytest.mark.slow
@named
# The kernel's own libraries, about themselves.
@pytest.mark.filterwarnings("default")
def test_it_runs(path, tmp_path, monkeypatch):
    # Nothing of the user's: neither a profile nor a history.
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    # Few steps, and the same images everywhere: the stand-in for what is not in the package.
    monkeypatch.setenv("NOTEBOOK_STEPS", "16")
    monkeypatch.setenv("FASHION_MNIST", str(tmp_path / "nowhere"))
    client = NotebookClient(
        read(path),
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
