"""How much of a run's time its viewers may take. Imports nothing."""

from __future__ import annotations

SHARE = 0.03
"""Of the time of the steps. The server's thread, and what pictures push out of the caches, take the rest of a tenth."""
LARGEST = 0.35
"""Seconds of credit that are kept: a picture at rest takes no longer, and is at most five seconds old."""
MOVING = 0.04
"""Seconds of a picture while the camera moves: 25 of them in a second look smooth."""
SMALLEST = 0.004
"""Seconds that a picture is worth beginning for."""
GROWTH = 4.0
"""A picture at rest is made again when it can take this many times as long: sizes then double from one to the next."""


class Pace:
    """A credit of time, which steps fill and pictures use up."""

    def __init__(self) -> None:
        self.credit = 0.0
        self._begun = False

    def stepped(self, seconds: float) -> None:
        """A step took this long."""
        self.credit = min(self.credit + SHARE * max(seconds, 0.0), LARGEST)

    def spent(self, seconds: float, drew: bool) -> None:
        """Something for the viewers took this long. The first picture (`drew`) also loads and compiles: nobody waits for that."""
        self.credit -= seconds if self._begun else min(seconds, SMALLEST)
        self._begun = self._begun or drew

    def moving(self) -> float | None:
        """Seconds that a picture may take now while a camera moves; None: wait."""
        return min(self.credit, MOVING) if self.credit >= SMALLEST else None

    def resting(self, last: float, whole: bool) -> float | None:
        """As `moving`, for a camera at rest. `last`: what its last picture took; `whole`: whether it had full size."""
        wanted = last if whole else GROWTH * last
        return self.credit if self.credit >= min(max(wanted, SMALLEST), LARGEST) else None


class Unpaced(Pace):
    """For a scene that is not trained at the moment: a picture waits for nothing, and the last one has full size."""

    STAGES = (MOVING, 10 * MOVING, 1e6)

    def moving(self) -> float:
        """Seconds of a picture while a camera moves."""
        return MOVING

    def resting(self, last: float, whole: bool) -> float:
        """First a quick picture, then a better one, then one of full size; of a scene that has changed at once that."""
        return self.STAGES[-1] if whole else next(limit for limit in self.STAGES if limit > 1.5 * last)
