"""Where the runs of a sweep are made. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dfw.interfaces.component import Component


@dataclass(frozen=True)
class RunOutcome:
    """How one run of a sweep ended."""

    run: str
    """Its name in the sweep."""
    status: str
    """`finished`, `interrupted`, `diverged`, `failed`; `taken`: another process works on it; `killed`: its process died."""
    diagnosis: str = ""
    """Why, on one line. Empty where there is nothing to say."""
    seconds: float = 0.0
    """Wall time in the process that made it."""


@dataclass(frozen=True)
class Sweep:
    """What a launcher is given: names of runs, and what makes one of them."""

    folder: Path
    """Absolute. Runs stand below it, and so may files of the launcher."""
    runs: Sequence[str]
    """Names of the runs to make, each once, in the order of the plan."""
    make: Callable[[str], RunOutcome]
    """Makes the run of that name, or continues it, in the process that calls it. It can be pickled.

    A run that is finished already, or that another process works on, is left as it is. SIGINT, SIGTERM and SIGHUP end a run with
    a checkpoint and the status `interrupted`. Exceptions of a run become its outcome.
    """
    stopped: Callable[[], int | None]
    """Returns the number of the signal that asks the sweep to end early. None before it."""
    say: Callable[[str], None]
    """Prints one sentence for the user."""


class Launcher(Component, ABC):
    """A way to make the runs of a sweep: on this machine, by a cluster's scheduler, in a cloud.

    No run is made in the process that launches it: what ends a run's process must not end the sweep. Its constructor raises
    ConfigError where what it needs is not there.
    """

    kind: ClassVar[str] = "launcher"

    @abstractmethod
    def outcomes(self, sweep: Sweep) -> Generator[RunOutcome, None, None]:
        """Makes every run of `sweep`, and yields each outcome as soon as it is there.

        A process that dies costs its own run alone, whose status is `killed` unless another process makes it after all. Once
        `sweep.stopped()` gives a number, no further run begins here, and the iterator ends soon: runs at work get that signal,
        or go on elsewhere, and `sweep.say` says so. A second signal raises KeyboardInterrupt here.
        """
