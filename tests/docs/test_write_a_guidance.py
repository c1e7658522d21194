"""docs/write-a-guidance.md word for word: its files and commands in order, from an empty folder, in a fresh environment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from fresh import ROOT, Fresh

PAGE = ROOT / "docs" / "write-a-guidance.md"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Block:
    """A fenced block behind a marker: `run`, `fails: CODE`, `file: PATH` or `shows`."""

    marker: str
    argument: str
    text: str


def blocks() -> list[Block]:
    """Those of the page, in order."""
    found = re.findall(r"<!-- (\w+)(?:: (\S+))? -->\n```\w+\n(.*?\n)```\n", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [Block(*part) for part in found]


def test_every_block_has_a_marker() -> None:
    """So that nothing on the page goes untried."""
    fences = PAGE.read_text(encoding="utf-8").count("\n```") / 2
    assert len(blocks()) == fences > 5
    assert {block.marker for block in blocks()} == {"run", "fails", "file", "shows"}


def test_the_page_works_as_it_is_written(framework_wheel: Path, tmp_path: Path) -> None:
    fresh = Fresh(tmp_path / "venv")
    fresh.install([framework_wheel])
    fresh.add_pip()
    place, said = tmp_path / "empty", ""
    place.mkdir()
    for block in blocks():
        if block.marker == "file":
            (place / block.argument).write_text(block.text, encoding="utf-8")
        elif block.marker == "shows":
            for line in block.text.splitlines():
                assert " ".join(line.split()) in " ".join(said.split())
        else:
            script = f"set -euo pipefail\ntrap 'pwd > {tmp_path / 'place'}' EXIT\n{block.text}"
            done = fresh.run("bash", "-c", script, cwd=place, code=int(block.argument or 0))
            place, said = Path((tmp_path / "place").read_text().strip()), done.stdout + done.stderr
            assert "Traceback" not in said
    (test,) = [block for block in blocks() if block.argument.startswith("tests/")]
    assert (place / test.argument).is_file()
    assert len(list(place.glob("runs/run/*/report.html"))) == 2
