"""docs/paint-your-own-mesh.md word for word: its files and commands in order, from an empty folder, in a fresh environment."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from fresh import Fresh
from tutorial import Page

pytestmark = pytest.mark.slow


def test_the_page_works_as_it_is_written(framework_wheel: Path, tmp_path: Path) -> None:
    fresh = Fresh(tmp_path / "venv")
    fresh.install([framework_wheel])
    place = Page("paint-your-own-mesh.md").work_through(fresh, tmp_path)
    (glb,) = place.glob("runs/shiny/*/export/object.glb")
    data = glb.read_bytes()
    tree = json.loads(data[20 : 20 + struct.unpack("<I", data[12:16])[0]])
    assert len(tree["images"]) == 3
