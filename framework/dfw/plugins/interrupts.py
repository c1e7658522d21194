"""Tells the user's Ctrl-C from an exception that only looks like it, and puts signal handlers back."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Those that ask a program to stop."""


class Interrupts:
    """While the block runs: `came` says whether a signal asked the program to stop.

    At its end each signal has the handler that it had before; `changed` says which had another. What a handler itself puts in
    place when a signal comes is not a change: that of a run gives way after the first Ctrl-C. Only the main thread sees signals.
    """

    def __init__(self) -> None:
        self.came = False
        self.changed: list[str] = []
        self._before: dict[signal.Signals, Any] = {}
        self._held: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = self._before[number] = signal.getsignal(number)
                if callable(before):
                    signal.signal(number, self._pass_on)
                self._held[number] = signal.getsignal(number)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, before in self._before.items():
            now = signal.getsignal(number)
            if now != self._held[number]:
                name = getattr(now, "__qualname__", None) or getattr(now, "name", now)
                self.changed.append(f"the handler of {number.name} to {name}")
            if now != before and before is not None:  # None: the handler is not Python's, which cannot set it
                signal.signal(number, before)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        which = signal.Signals(number)
        installed = signal.getsignal(which)  # of this fence, or of one inside it
        try:
            self._before[which](number, frame)
        finally:
            now = signal.getsignal(which)
            if now != installed:
                self._before[which] = now
                if callable(now):
                    signal.signal(which, self._pass_on)
                self._held[which] = signal.getsignal(which)
