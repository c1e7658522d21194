"""How a process was asked for a run. Imports no torch."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass, field


def _command_line() -> str:
    return shlex.join(sys.argv)


@dataclass(frozen=True)
class Call:
    """How this process was asked for a run."""

    command: str = field(default_factory=_command_line)
    """As a shell takes it."""
    began: float = field(default_factory=time.monotonic)
    """When, on `time.monotonic()`."""
    sweep: str = ""
    """Name of the sweep that the run belongs to; empty for a run that somebody asked for alone."""
