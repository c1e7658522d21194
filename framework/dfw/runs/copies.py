"""Where a run is copied to while it is made, for those who have asked for it. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Protocol

_current: ContextVar[Copying | None] = ContextVar("copying", default=None)


class Copying(Protocol):
    """Copies a run. None of its methods waits for the copy."""

    @property
    def lost(self) -> str:
        """Who has taken the run from this process; empty while it is its own."""

    def written(self, folder: Path) -> None:
        """Something new is complete in the run's `folder`, or in that of one of its stages."""


@contextmanager
def copied_by(copying: Copying) -> Iterator[None]:
    """The run that is made inside tells `copying` what it has written."""
    token = _current.set(copying)
    try:
        yield
    finally:
        _current.reset(token)


def written(folder: Path) -> None:
    """Says that something new is complete in `folder`."""
    copying = _current.get()
    if copying is not None:
        copying.written(folder)


def lost() -> str:
    """Returns who has taken the run from this process; empty while it is its own."""
    copying = _current.get()
    return "" if copying is None else copying.lost
