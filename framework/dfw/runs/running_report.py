"""The report of a run that goes on: an open browser shows it, and renews itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from dfw.errors import ExportError

log = logging.getLogger("dfw.runs")

SHARE = 0.02
"""Largest part of the run's time that its reports take, apart from the first: a report of 10,000 steps takes seconds."""


class RunningReport:
    """Writes the report when the run has something new to show, but not more often than `SHARE` allows."""

    def __init__(self, write: Callable[[], object]) -> None:
        self._write = write
        self._next: float | None = None
        self._failed = False

    def renew(self) -> None:
        """Writes the report where it is due. One that cannot be written is a warning, because the run does not need it."""
        began = time.monotonic()
        if self._next is not None and began < self._next:
            return
        try:
            self._write()
        except ExportError as error:
            if not self._failed:
                log.warning("%s; the run goes on without it", error)
            self._failed = True
        # The first one takes longer, because it compiles the templates.
        self._next = began if self._next is None else began + (time.monotonic() - began) / SHARE
