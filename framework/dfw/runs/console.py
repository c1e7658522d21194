"""What a run says: a listener like any other. A progress bar on a terminal, plain lines elsewhere. Imports no torch."""

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

PARTS = ("render", "guidance", "backward", "optimizer")


def split_text(seconds: Mapping[str, float]) -> str:
    """`render 41 %, guidance 33 %, ...` of the time a step took."""
    total = sum(seconds.values()) or 1.0
    return ", ".join(f"{part} {100 * seconds.get(part, 0.0) / total:.0f} %" for part in PARTS)


def duration_text(seconds: float) -> str:
    """`42 s` or `3 min 07 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class _Patient(Console):
    """A console that falls silent when nobody reads it any more (`dfw run ... | head`): the run goes on."""

    def on_broken_pipe(self) -> None:
        """Sends what is still printed nowhere, the interpreter's own last flush included."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class ConsoleListener:
    """Progress with the time left and where the time goes; at the end the paths of what was made."""

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
        """Says what is made and where."""
        self._console.print(f"{run.config.prompt} -> {run.directory}", markup=False)
        if self._console.is_terminal:
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
        """The summary: status, time, time split, and every file that was made."""
        if self._bar is not None:
            self._bar.stop()
        self._console.print(f"{run.status} after {duration_text(run.seconds)}; {split_text(self._seconds)}", markup=False)
        for name, path in run.artifacts.items():
            self._console.print(f"  {name:<10} {_shown(path)}", markup=False)
        if run.status == "interrupted":
            self._console.print(f"go on with: dfw run --resume {_shown(run.directory)}", markup=False)


def _shown(path: Path) -> str:
    cwd = Path.cwd()
    return str(path.relative_to(cwd)) if path.is_relative_to(cwd) else str(path)
