"""The console listener prints a progress bar on a terminal, and plain lines elsewhere. Imports no torch."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from dfw.interfaces.events import PhaseBegan, RunEnded, RunStarted, StepEnded
from dfw.interfaces.hooks import hookimpl
from dfw.report.data import duration_text
from dfw.runs.directory import STAGES, RunDirectory
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
    """Prints what is done, progress, the time left and the time split, and at the end the paths of all files."""

    def __init__(self, console: Console | None = None, lines_every: float = 10.0) -> None:
        self._console = console or _Patient(highlight=False, soft_wrap=True)
        self._every = lines_every
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._seconds: dict[str, float] = {}
        self._doing = ""
        self._last_line = 0.0

    def saying(self, doing: str) -> ConsoleListener:
        """Prints what is done before there are any events. Returns itself."""
        self.dfw_phase_began(PhaseBegan(doing))
        return self

    @hookimpl
    def dfw_phase_began(self, phase: PhaseBegan) -> None:
        """Prints what is done now; once, if it goes on."""
        if phase.doing != self._doing:
            self._doing = phase.doing
            self._stop_bar()
            self._console.print(f"{phase.doing} ...", markup=False)

    @hookimpl
    def dfw_run_started(self, run: RunStarted) -> None:
        """Prints the prompt, the run directory, and where previews and report are."""
        self._seconds, self._last_line = {}, time.monotonic()
        goes_on = f", goes on at step {run.first_step}" if run.first_step else ""
        self._console.print(printable(f"{run.config.prompt} -> {_shown(run.directory)}{goes_on}"), markup=False)
        self._console.print(f"previews: {_shown(run.directory / 'images')}", markup=False)
        self._console.print(f"report: {_shown(RunDirectory(run.directory).report)} renews itself in a browser", markup=False)
        if self._on_a_terminal() and run.first_step < run.total_steps:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("", total=run.total_steps, completed=run.first_step, left="")
            self._bar.start()

    @hookimpl
    def dfw_step_ended(self, step: StepEnded) -> None:
        """Moves the bar, or prints a line every ten seconds."""
        now = time.monotonic()
        for part, value in step.seconds.items():
            self._seconds[part] = self._seconds.get(part, 0.0) + value
        text = f"opacity {step.metrics.get('opacity', 0.0):.3f}  {split_text(self._seconds)}"
        done = step.progress.step + 1
        left = "" if step.seconds_left is None else f"{duration_text(step.seconds_left)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=text, left=left)
        elif now - self._last_line >= self._every or done == step.progress.total:
            self._last_line = now
            self._console.print(f"step {done}/{step.progress.total}  {left}  {text}", markup=False)

    @hookimpl
    def dfw_run_ended(self, run: RunEnded) -> None:
        """Prints the summary: status, time, time split and every file, and how to go on."""
        self._stop_bar()
        split = ", ".join(f"{part} {duration_text(seconds)}" for part, seconds in run.times.items())
        self._console.print(f"{run.status} after {duration_text(run.seconds)}{split and ': '}{split}", markup=False)
        for name, path in run.artifacts.items():
            self._console.print(f"  {name:<10} {_shown(path)}", markup=False)
        if run.status in ("interrupted", "failed"):
            whole = run.directory.parent if (run.directory.parent / STAGES).is_file() else run.directory
            self._console.print(f"to continue: dfw run --resume {shlex.quote(_shown(whole))}", markup=False)

    def _on_a_terminal(self) -> bool:
        return self._console.is_terminal and self._console.file.isatty()  # FORCE_COLOR calls every file a terminal

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _shown(path: Path) -> str:
    cwd = Path.cwd()
    return str(path.relative_to(cwd)) if path.is_relative_to(cwd) else str(path)
