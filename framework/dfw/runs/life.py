"""A process's hold on a run: its lock, and status.json, which says what is so from the first moment to the last."""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dfw.errors import DfwError, DivergedError, one_line
from dfw.interfaces.events import Status
from dfw.runs import copies
from dfw.runs.directory import RunDirectory
from dfw.runs.lock import RunLock, is_locked
from dfw.runs.signals import Interrupted, Stop
from dfw.runs.times import Times

STATUS = "status.json"


class Life:
    """While open, no other process goes on with the run in `folder`.

    `begin` writes `running`; from then on the file says how the run ended, whatever ends it: an exception too, and a signal. A
    process that is killed leaves `running`, and the lock, which it no longer holds, says that it is gone (`status_of`).
    """

    def __init__(self, folder: Path, times: Times, stop: Stop) -> None:
        self.folder = folder
        self.times = times
        self.stop = stop
        self.before: dict[str, Any] = {}
        """What status.json said when the run was locked."""
        self._files = RunDirectory(folder)
        self._lock = RunLock(folder)
        self.changed = True
        """Whether this process has changed the run. One that could not even load it leaves status.json as it was."""
        self._facts: dict[str, Any] = {}
        self._ended = True

    def __enter__(self) -> Self:
        self._lock.take()
        self.before = self._files.read_json(STATUS)
        self.changed = not self.before
        return self

    @property
    def complete(self) -> bool:
        """Whether the run was finished when it was locked, and has all its files."""
        files = self.before.get("artifacts", {})
        return self.before.get("status") == "finished" and all((self.folder / str(path)).exists() for path in files.values())

    def begin(self, **facts: Any) -> None:
        """Writes `running`. `facts` are further keys of status.json."""
        self._ended = False
        self.say(**facts)

    def say(self, **facts: Any) -> None:
        """Brings status.json up to date, and changes `facts` in it."""
        self._write("running", "", facts)

    def check(self) -> None:
        """Ends a forked child; raises Interrupted if a signal has asked for it.

        A run that another machine has taken meanwhile ends as if SIGTERM had come.
        """
        self._lock.check()
        if copies.lost():
            self.stop.ask(signal.SIGTERM)
        self.stop.check()

    def seconds(self) -> dict[str, float]:
        """Returns part of the run's time -> seconds, in all its processes so far."""
        return _summed(self.before.get("times"), self.times.seconds())

    def end(self, status: Status, diagnosis: str = "", times: Mapping[str, float] | None = None, **facts: Any) -> None:
        """Says how the run ended. `times`: what `seconds` gave when the report was written, so that both say the same."""
        with self.stop.held():
            self._ended = True
            self._write(status, diagnosis, facts, times)

    def _write(self, status: str, diagnosis: str, facts: Mapping[str, Any], times: Mapping[str, float] | None = None) -> None:
        self._lock.check()
        self._facts |= facts
        times = times or self.seconds()
        here, whole = sum(self.times.seconds().values()), sum(times.values())
        said = {"status": status, "diagnosis": diagnosis} | asdict(self._lock.holder) | self._facts
        said |= {"seconds": round(whole, 2), "seconds_of_this_process": round(min(here, whole), 2)}
        self._files.write_json(STATUS, said | {"times": {part: round(value, 3) for part, value in times.items()}})
        copies.written(self.folder)

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        try:
            if isinstance(error, Interrupted) and not (self._ended and self.changed):
                error.folder = self.folder  # nobody has said yet how to go on
            if error is not None and not self._ended:
                if self.changed:
                    self.end(*ending(error))
                else:
                    self._files.write_json(STATUS, self.before)
        finally:
            self._lock.release()


def ending(error: BaseException) -> tuple[Status, str]:
    """Returns what status.json says of a run that `error` ended: status, and diagnosis."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", ""
    said = str(error) if isinstance(error, DfwError) else ""
    return "diverged" if isinstance(error, DivergedError) else "failed", said or one_line(error)


def status_of(folder: Path) -> str:
    """Returns how the run in `folder` stands: `running`, how it ended, or `killed`.

    `killed`: its process is gone and has not said how it ended. Empty where no process has begun it.
    """
    locked = is_locked(folder)
    said = str(RunDirectory(folder).read_json(STATUS).get("status", ""))
    if locked:
        return "running"
    return "killed" if said == "running" and locked is not None else said


def _summed(before: object, now: Mapping[str, float]) -> dict[str, float]:
    """Adds up two mappings of seconds; of a damaged one only what are numbers."""
    old = {str(part): float(value) for part, value in before.items() if _is_number(value)} if isinstance(before, dict) else {}
    return {part: old.get(part, 0.0) + now.get(part, 0.0) for part in old | dict(now)}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
