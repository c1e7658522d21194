"""Where the wall time of a process goes. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Times:
    """Adds up wall time by what is being done, from `start` on. Every moment counts for exactly one part."""

    def __init__(self, began: float | None = None) -> None:
        """`began`: when the process began its work, on `time.monotonic()`; by default now."""
        self.began = time.monotonic() if began is None else began
        self._seconds: dict[str, float] = {}
        self._part, self._since = "start", self.began

    def begin(self, part: str) -> None:
        """Ends the part before, and begins this one."""
        now = time.monotonic()
        self._seconds[self._part] = self._seconds.get(self._part, 0.0) + now - self._since
        self._part, self._since = part, now

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Counts what is inside as `part`, and goes on with the part before."""
        outer = self._part
        self.begin(part)
        try:
            yield
        finally:
            self.begin(outer)

    def seconds(self) -> dict[str, float]:
        """Returns part -> seconds up to now."""
        self.begin(self._part)
        return dict(self._seconds)
