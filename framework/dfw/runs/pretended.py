"""Runs that take no time, for the conformance kit of launchers. Imports no torch: each of its processes begins anew."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dfw.interfaces.launcher import RunOutcome

MADE = "made.txt"
"""A line for each run that was made: its name, and the process that made it."""


@dataclass(frozen=True)
class Pretended:
    """Notes in `folder` that it was asked for a run. The first word of the run's name says how it ends: `diverged-2`."""

    folder: Path

    def __call__(self, name: str) -> RunOutcome:
        """Returns the run's outcome. The process ends at once where it is `killed`."""
        with open(self.folder / MADE, "a", encoding="utf-8") as file:
            file.write(f"{name} {os.getpid()}\n")
        outcome = pretended(name)
        if outcome.status == "killed":
            os._exit(9)
        return outcome

    def made(self) -> list[tuple[str, int]]:
        """Returns the runs that were made so far, each with its process."""
        file = self.folder / MADE
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [(line.partition(" ")[0], int(line.partition(" ")[2])) for line in lines]


def pretended(name: str) -> RunOutcome:
    """Returns how the run of that name ends."""
    status, _, number = name.partition("-")
    return RunOutcome(name, status, "" if status == "finished" else f"it is the run {name}", 0.1 * int(number))
