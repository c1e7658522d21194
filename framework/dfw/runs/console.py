"""The console listener prints a progress bar on a terminal, and plain lines elsewhere. Imports no torch."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from dfw.interfaces.events import RunEnded, RunStarted, StepEnded
from dfw.interfaces.hooks import hookimpl
from dfw.report.data import duration_text
from dfw.text import printable

PARTS = ("render", "guidance", "backward", "optimizer")


def split_text(seconds: Mapping[str, float]) -> str:
    """Formats shares of a step's time: `render 41 %, guidance 33 %, ...`."""
    total = sum(seconds.values()) or 1.0
    return ", ".join(f"{part} {100 * seconds.get(part, 0.0) / total:.0f} %" for part in PARTS)


class _Patient(Console):
    """A console that goes quiet when its pipe is closed (`dfw run ... | head`), so that the run goes on."""

    def on_broken_pipe(self) -> None:
        """Sends all further output to the null device, including the interpreter's last flush."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class ConsoleListener:
    """Prints progress, the time left and the time split, and at the end the paths of all files."""

    def __init__(self, console: Console | None = None, lines_every: float = 10.0) -> None:
        self._console = console or _Patient(highlight=False, soft_wrap=True)
        self._every = lines_every
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._seconds: dict[str, float] = {}
        self._first: tuple[int, float] | None = None
        self._last_line = 0.0

    @hookimpl
    def dfw_run_started(self, run: RunStarted) -> None:
        """Prints the prompt and the run directory."""
        self._console.print(printable(f"{run.config.prompt} -> {_shown(run.directory)}"), markup=False)
        if self._console.is_terminal and self._console.file.isatty():  # FORCE_COLOR calls every file a terminal
            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("", total=run.total_steps)
            self._bar.start()

    @hookimpl
    def dfw_step_ended(self, step: StepEnded) -> None:
        """Moves the bar, or prints a line every ten seconds."""
        now = time.monotonic()
        if self._first is None:
            self._first = (step.progress.step, now)
            self._last_line = now
        for part, value in step.seconds.items():
            self._seconds[part] = self._seconds.get(part, 0.0) + value
        text = f"opacity {step.metrics.get('opacity', 0.0):.3f}  {split_text(self._seconds)}"
        done = step.progress.step + 1
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=text)
        elif now - self._last_line >= self._every or done == step.progress.total:
            self._last_line = now
            start, since = self._first
            rate = (now - since) / max(done - start - 1, 1)
            left = duration_text(rate * (step.progress.total - done))
            self._console.print(f"step {done}/{step.progress.total}  {left} left  {text}", markup=False)

    @hookimpl
    def dfw_run_ended(self, run: RunEnded) -> None:
        """Prints the summary: status, time, time split and every file."""
        if self._bar is not None:
            self._bar.stop()
        self._console.print(f"{run.status} after {duration_text(run.seconds)}; {split_text(self._seconds)}", markup=False)
        for name, path in run.artifacts.items():
            self._console.print(f"  {name:<10} {_shown(path)}", markup=False)
        if run.status == "interrupted":
            self._console.print(f"to continue: dfw run --resume {_shown(run.directory)}", markup=False)


def _shown(path: Path) -> str:
    cwd = Path.cwd()
    return str(path.relative_to(cwd)) if path.is_relative_to(cwd) else str(path)
