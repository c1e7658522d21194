"""The tutorials, block by block, from an empty folder: their files, their commands and what these say.

Two others, which make packages, are tried in a fresh environment (`test_write_a_guidance.py`, `test_write_a_method.py`).
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from command_line import fresh_plugins
from tutorial import Page

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    fresh_plugins()
    return tmp_path


@pytest.mark.parametrize("name", ["first-object", "objective", "prior", "loss", "study"])
def test_a_tutorial(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Page(f"tutorials/{name}.md").work_through_here(place, capsys)


def test_from_a_sketch_to_an_asset(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Page("from-a-sketch-to-an-asset.md").work_through_here(place, capsys)
    assert len(list(place.glob("runs/*/*/export/object.glb"))) == 3


def test_paint_your_own_mesh(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Page("paint-your-own-mesh.md").work_through_here(place, capsys)
    (glb,) = place.glob("runs/shiny/*/export/object.glb")
    data = glb.read_bytes()
    tree = json.loads(data[20 : 20 + struct.unpack("<I", data[12:16])[0]])
    assert len(tree["images"]) == 3
