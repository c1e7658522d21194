"""docs/write-a-method.md word for word: its files and commands in order, from an empty folder, in a fresh environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fresh import Fresh
from tutorial import Page

PAGE = Page("write-a-method.md")

pytestmark = pytest.mark.slow


def test_the_page_works_as_it_is_written(framework_wheel: Path, tmp_path: Path) -> None:
    fresh = Fresh(tmp_path / "venv")
    fresh.install([framework_wheel])
    fresh.add_pip()
    place = PAGE.work_through(fresh, tmp_path)
    runs = sorted(place.glob("runs/spiral/*"))
    assert [(run / "report.html").is_file() for run in runs] == [True] * 3
    first = json.loads((runs[0] / "manifest.json").read_text())["components"]
    ours = {path for path, origin in first.items() if origin["distribution"] == "dreamfw-spiral"}
    assert ours == {"cameras", "prompter", "losses.sds", "losses.sds.noise"}
