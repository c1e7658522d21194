"""Pages of the documentation whose blocks are tried: a comment before each says whether it is a file, a command or its output."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from fresh import ROOT, Fresh


@dataclass(frozen=True)
class Block:
    """A fenced block behind a marker: `run`, `fails: CODE`, `file: PATH` or `shows`."""

    marker: str
    argument: str
    text: str


@dataclass(frozen=True)
class Page:
    """A page of `docs`."""

    name: str

    @property
    def text(self) -> str:
        return (ROOT / "docs" / self.name).read_text(encoding="utf-8")

    def blocks(self) -> list[Block]:
        """Those of the page, in order. Every fenced block has a marker, so that nothing on the page goes untried."""
        found = re.findall(r"<!-- (\w+)(?:: (\S+))? -->\n```\w+\n(.*?\n)```\n", self.text, re.DOTALL)
        assert len(found) == self.text.count("\n```") / 2 > 5
        assert {marker for marker, _, _ in found} == {"run", "fails", "file", "shows"}
        return [Block(*part) for part in found]

    def work_through(self, fresh: Fresh, folder: Path) -> Path:
        """Writes the page's files and runs its commands in order, from an empty place in `folder`. Returns where they ended."""
        place, said = folder / "empty", ""
        place.mkdir()
        for block in self.blocks():
            if block.marker == "file":
                (place / block.argument).write_text(block.text, encoding="utf-8")
            elif block.marker == "shows":
                for line in block.text.splitlines():
                    assert " ".join(line.split()) in " ".join(said.split()), said
            else:
                leave = shlex.quote(f"pwd > {shlex.quote(str(folder / 'place'))}")
                script = f"set -euo pipefail\ntrap {leave} EXIT\n{block.text}"
                done = fresh.run("bash", "-c", script, cwd=place, code=int(block.argument or 0))
                place, said = Path((folder / "place").read_text().strip()), done.stdout + done.stderr
                assert "Traceback" not in said
        return place
