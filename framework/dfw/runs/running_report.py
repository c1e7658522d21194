"""The report of a run that goes on: an open browser shows it, and renews itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dfw.errors import DfwError, one_line

log = logging.getLogger("dfw.runs")
READERS = ("dfw.runs", "dfw.report")
"""Loggers that warn of what a report reads."""

SHARE = 0.02
"""Largest part of the run's time that its reports take, apart from the first: a report of 10,000 steps takes seconds."""


class _Once(logging.Filter):
    """Lets each warning through once: a file that is damaged at one preview is damaged at the next."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether the record is new."""
        text = record.getMessage()
        new = record.levelno < logging.WARNING or text not in self._said
        self._said.add(text)
        return new

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Inside, it filters what is said of files."""
        loggers = [logging.getLogger(name) for name in READERS]
        for logger in loggers:
            logger.addFilter(self)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(self)


class RunningReport:
    """Writes the report when the run has something new to show, but not more often than `SHARE` allows."""

    def __init__(self, write: Callable[[], object]) -> None:
        self._write = write
        self._next: float | None = None
        self._failed = False
        self._once = _Once()

    def renew(self) -> None:
        """Writes the report where it is due. One that cannot be written is a warning, because the run does not need it."""
        began = time.monotonic()
        if self._next is not None and began < self._next:
            return
        try:
            with self._once.heard():
                self._write()
        except Exception as error:  # a page must not cost the scene, whatever goes wrong with it
            if not self._failed:
                said = str(error) if isinstance(error, DfwError) else f"the report cannot be made: {one_line(error)}"
                log.warning("%s; the run goes on without it", said)
                log.info("traceback", exc_info=error)
            self._failed = True
        # The first one takes longer, because it compiles the templates.
        self._next = began if self._next is None else began + (time.monotonic() - began) / SHARE
