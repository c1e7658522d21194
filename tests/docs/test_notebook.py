"""The notebooks run from top to bottom, each in a folder of its own, and show what they say. The course runs at its small size.

All share one process, since the imports take longer than most of the cells. Each starts with an empty namespace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "examples" / "notebooks"
COURSE = sorted(path.stem for path in FOLDER.glob("[0-9]-*.ipynb"))
SHORTER = {'{"steps": 30, "preview_every": 30}': '{"steps": 6, "preview_every": 6}', "trainer.steps=40": "trainer.steps=9"}
"""What a notebook says -> what is run in its place, to save time."""
LARGEST = 300_000  # bytes of a notebook with its pictures: a clone carries every version of it


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelManager]:
    home = tmp_path_factory.mktemp("ipython")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(home))  # its home may not be writable
        patch.setenv("DFW_COURSE", "quick")
        manager = KernelManager(kernel_name="python3")
        manager.start_kernel(cwd=str(home))
        try:
            yield manager
        finally:
            manager.shutdown_kernel(now=True)


def executed(name: str, kernel: KernelManager, folder: Path) -> nbformat.NotebookNode:
    """Runs a notebook in `folder`, and returns it with the outputs. A cell that raises is raised."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    fresh = f"%reset -f\nimport os\nos.chdir({str(folder)!r})\ndel os"
    for cell in notebook.cells:
        for large, small in SHORTER.items():
            cell.source = cell.source.replace(large, small)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(fresh))
    NotebookClient(notebook, km=kernel, timeout=500).execute()
    return notebook


def pictures(notebook: nbformat.NotebookNode) -> int:
    shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in data or "image/jpeg" in data for data in shown)


@pytest.mark.slow
def test_the_notebook_on_python_runs(kernel: KernelManager, tmp_path: Path):
    committed = nbformat.read(FOLDER / "from-python.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in committed.cells)  # committed without outputs
    assert pictures(executed("from-python", kernel, tmp_path)) == 3  # the run, a view of it, and the loop's scene
    assert len(list((tmp_path / "runs" / "dreamfusion").iterdir())) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", COURSE)
def test_the_course_runs(name: str, kernel: KernelManager, tmp_path: Path):
    committed = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert pictures(executed(name, kernel, tmp_path)) == pictures(committed) > 0


@pytest.mark.parametrize("name", COURSE)
def test_the_course_is_committed_with_outputs_of_one_run(name: str):
    path = FOLDER / f"{name}.ipynb"
    assert path.stat().st_size <= LARGEST
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for output in (output for cell in code for output in cell.outputs):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
        text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
        assert not re.search(r"(/tmp|/home|/root|/work)/", text)  # nobody else has these folders


def test_the_course_is_complete_and_its_links_lead_somewhere():
    assert [name[0] for name in COURSE] == list("12345")
    page = (FOLDER.parents[1] / "docs" / "course.md").read_text(encoding="utf-8")
    for name in COURSE:
        assert f"{name}.ipynb" in page
        for cell in nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells:
            for target in re.findall(r"\]\(([^)#]+?)\)", cell.source) if cell.cell_type == "markdown" else ():
                assert (FOLDER / target).exists(), f"{name}: {target}"
