"""docs/write-a-guidance.md word for word: its files and commands in order, from an empty folder, in a fresh environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from fresh import Fresh
from tutorial import Page

PAGE = Page("write-a-guidance.md")

pytestmark = pytest.mark.slow


def test_the_page_works_as_it_is_written(framework_wheel: Path, tmp_path: Path) -> None:
    fresh = Fresh(tmp_path / "venv")
    fresh.install([framework_wheel])
    fresh.add_pip()
    place = PAGE.work_through(fresh, tmp_path)
    (test,) = [block for block in PAGE.blocks() if block.argument.startswith("tests/")]
    assert (place / test.argument).is_file()
    assert len(list(place.glob("runs/run/*/report.html"))) == 2
