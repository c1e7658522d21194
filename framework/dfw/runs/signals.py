"""Ctrl-C, SIGTERM and SIGHUP end a run in an orderly way. Imports no torch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Those of a terminal, of schedulers and service managers, and of a lost connection."""


class Interrupted(KeyboardInterrupt):
    """A signal ends what is being done. Passes, as Ctrl-C does, through the fences around plugins."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        """The signal's number; the exit code is 128 more."""
        self.folder: Path | None = None
        """The run that it ended, where nobody has said yet how to go on with it."""


class Stop:
    """What signals ask for. The first one sets `number`, so that the step ends and a checkpoint is written.

    Within `at_once` the first one raises Interrupted. A second one always does. A third one has the system's own effect.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        """The first signal; None before it."""
        self.insisted = False
        """Whether a second one arrived."""
        self._at_once = 0
        self._held = 0
        self._waits = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Signals, also one that has arrived before, raise Interrupted inside."""
        self._at_once += 1
        try:
            self.check()
            yield
        finally:
            self._at_once -= 1

    @contextmanager
    def held(self) -> Iterator[None]:
        """Signals wait until the end, because half of what is inside would be worse than none. It is short."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._waits and not self._held:
            self._waits = False
            self.check()

    def check(self) -> None:
        """Raises Interrupted if a signal has asked for it."""
        if self.number is not None and (self._at_once or self.insisted):
            raise Interrupted(self.number)

    def ask(self, number: int) -> None:
        """Asks for an end as a first signal does. One that has come before stays the first."""
        if self.number is None:
            self.handle(number, None)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The handler."""
        if self.insisted:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.insisted = self.number is not None
        self.number = self.number or number
        if self._held:
            self._waits = True
        else:
            self.check()


@contextmanager
def stopping() -> Iterator[Stop]:
    """Handles `SIGNALS` inside, and puts back the handlers that were there.

    One that is ignored stays ignored, as `nohup` wants it. Outside the main thread, where Python allows no handlers, nothing is
    installed.
    """
    stop = Stop()
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}
        before = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}  # None: not Python's
    try:
        for number in before:
            signal.signal(number, stop.handle)
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)
