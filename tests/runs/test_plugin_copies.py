"""A run keeps the `--plugin` files that it was made with, and says when another one with that name comes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from small_runs import PIXELS
from warm_processes import Dfw

SOURCE = "from dfw import hookimpl\n\n@hookimpl\ndef dfw_run_started(run):\n    print('one')\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was made with `mine.py`."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "c.yaml").write_text(yaml.safe_dump(PIXELS))
    (folder / "mine.py").write_text(SOURCE)
    process = Dfw(folder, "run", "c.yaml", "output=runs", "name=x", "--plugin", "mine.py")
    assert process.wait() == 0, process.said
    (found,) = (folder / "runs" / "x").iterdir()
    return found


def recorded(run: Path) -> dict[str, str]:
    """Name of a copy -> digest that the manifest gives."""
    return {name: one["sha256"] for name, one in json.loads((run / "manifest.json").read_text())["plugins"].items()}


def go_on(run: Path, steps: int, source: str) -> str:
    file = run.parents[2] / "mine.py"
    file.write_text(source)
    process = Dfw(file.parent, "run", "--resume", str(run), f"trainer.steps={steps}", "--plugin", "mine.py")
    assert process.wait() == 0, process.said
    return process.said


def test_a_plugin_file_is_copied_and_a_changed_one_is_said_and_copied_too(run: Path) -> None:
    copies, other = run / "plugins", SOURCE.replace("one", "two")
    assert (copies / "mine.py").read_text() == SOURCE
    assert recorded(run) == {"mine.py": hashlib.sha256(SOURCE.encode()).hexdigest()}

    assert "has changed" not in go_on(run, 7, SOURCE)
    assert [path.name for path in copies.iterdir()] == ["mine.py"]

    said = " ".join(go_on(run, 8, other).split())
    file = run.parents[2] / "mine.py"
    assert f"--plugin {file}: has changed since the run was made; {copies / 'mine.py'} is as it was then" in said
    assert {path.name: path.read_text() for path in copies.iterdir()} == {"mine.py": SOURCE, "mine-2.py": other}
    assert recorded(run)["mine-2.py"] == hashlib.sha256(other.encode()).hexdigest()
