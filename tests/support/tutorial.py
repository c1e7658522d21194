"""Pages of the documentation whose blocks are tried: a comment before each says whether it is a file, a command or its output."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import run_dfw
from fresh import ROOT, Fresh

QUICK = (
    "trainer.preview_width=16",
    "export.resolution=16",
    "export.texture=64",
    "export.faces=200",
    "export.turntable_frames=2",
    "export.turntable_width=16",
)
SMALLER: dict[str, dict[str, tuple[str, ...]]] = {
    "short": {
        "run": ("trainer.steps=2", *QUICK),
        "sweep": ("trainer.steps=2", "cameras.width=16", *QUICK),
        "render": ("--frames", "2"),
    },
    "longer": {"run": ("trainer.steps=3",)},
    "small": {"evaluate": ("--width", "32")},
}
"""How a block is marked whose commands take long -> verb -> what a test says in their place."""
WORD = re.compile(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""")
"""A word of a command as it is written, quotes and wildcards included."""


@dataclass(frozen=True)
class Block:
    """A fenced block behind a marker: `run`, `fails: CODE`, `file: PATH` or `shows`."""

    marker: str
    argument: str
    text: str

    def settled(self, place: Path, said: str) -> bool:
        """Writes a file, or compares with what the command before `said`. Returns False for a command."""
        if self.marker == "file":
            (place / self.argument).write_text(self.text, encoding="utf-8")
        elif self.marker == "shows":
            assert_shown(self.text, said)
        return self.marker in ("file", "shows")

    @property
    def code(self) -> int:
        """The exit code of its commands."""
        return int(self.argument) if self.marker == "fails" else 0

    def smaller(self, words: list[str]) -> list[str]:
        """The words of a command of `dfw`, with what `SMALLER` says in place of what takes long."""
        added = SMALLER.get(self.argument, {}).get(words[1], ())
        changed = {one.partition("=")[0] for one in added}
        return [*(word for word in words if word.partition("=")[0] not in changed), *added]

    def script(self) -> str:
        """Its commands for a shell, each made smaller."""
        lines = self.text.splitlines()
        if self.argument not in SMALLER:
            return self.text
        return "\n".join(" ".join(self.smaller(WORD.findall(one))) if one.startswith("dfw ") else one for one in lines)


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
        assert {marker for marker, _, _ in found} <= {"run", "fails", "file", "shows"}
        return [Block(*part) for part in found]

    def work_through_here(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Writes the page's files into `place`, the current directory, and runs its commands: those of `dfw` in this process."""
        said = ""
        for block in self.blocks():
            if not block.settled(place, said):
                said = "".join(self._call(line, block, capsys) for line in block.text.splitlines())

    def _call(self, line: str, block: Block, capsys: pytest.CaptureFixture[str]) -> str:
        """Runs one command, whose words the shell expands, and returns what it says."""
        if not line.startswith("dfw "):
            done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
            assert done.returncode == block.code, f"{line}\n{done.stdout}\n{done.stderr}"
            return done.stdout + done.stderr
        done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True)
        _, verb, *words = block.smaller(done.stdout.split("\0")[:-1])
        code, out, err = run_dfw(verb, *words, capsys=capsys)
        assert code == block.code, f"{line}\n{out}\n{err}"
        assert "Traceback" not in out + err
        return out + err

    def work_through(self, fresh: Fresh, folder: Path) -> Path:
        """Writes the page's files and runs its commands in order, from an empty place in `folder`. Returns where they ended."""
        place, said = folder / "empty", ""
        place.mkdir()
        for block in self.blocks():
            if not block.settled(place, said):
                leave = shlex.quote(f"pwd > {shlex.quote(str(folder / 'place'))}")
                script = f"set -euo pipefail\ntrap {leave} EXIT\n{block.script()}"
                done = fresh.run("bash", "-c", script, cwd=place, code=block.code)
                place, said = Path((folder / "place").read_text().strip()), done.stdout + done.stderr
                assert "Traceback" not in said
        return place


def assert_shown(text: str, said: str) -> None:
    """Each line of `text` stands in what a command said, however it was wrapped."""
    for line in text.splitlines():
        assert " ".join(line.split()) in " ".join(said.split()), said
