"""docs/from-a-sketch-to-an-asset.md word for word: its files and commands in order, from an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from fresh import Fresh
from tutorial import Page

pytestmark = pytest.mark.slow


def test_the_page_works_as_it_is_written(framework_wheel: Path, tmp_path: Path) -> None:
    fresh = Fresh(tmp_path / "venv")
    fresh.install([framework_wheel])
    place = Page("from-a-sketch-to-an-asset.md").work_through(fresh, tmp_path)
    assert len(list(place.glob("runs/*/*/export/object.glb"))) == 3
