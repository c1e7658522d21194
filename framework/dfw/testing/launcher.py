"""The kit for launchers: every run made once, in another process, whatever happens to the others."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from torch import Tensor

from dfw.errors import ConfigError
from dfw.interfaces.launcher import Launcher, RunOutcome, Sweep
from dfw.runs.pretended import Pretended, pretended
from dfw.testing.base import ComponentTests
from dfw.testing.outcomes import Skip, require

_MANY = 12
"""Runs of which a launcher may not make all after a signal. It makes fewer at a time."""


class LauncherTests(ComponentTests[Launcher]):
    """Checks of a `Launcher`. Write `make`. The runs it is given take no time, and their processes may die."""

    interface: ClassVar[type[Any]] = Launcher

    def make(self) -> Launcher:
        """A launcher, where what it needs is there. Skips the check elsewhere, with what the launcher says."""
        try:
            return super().make()
        except ConfigError as error:
            raise Skip(str(error)) from error

    def exercise(self, made: Launcher) -> None:
        """Makes one run."""
        self._launched(made, ["finished-1"])

    def observe(self, made: Launcher, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The seconds of one run."""
        outcomes, _ = self._launched(made, ["finished-3"])
        return {outcome.run: torch.tensor(outcome.seconds, dtype=dtype) for outcome in outcomes}

    # -- checks --------------------------------------------------------------------------------------------------------

    def test_every_run_is_made_once(self) -> None:
        """Each run is made once, in a process that is not this one."""
        names = ["finished-1", "finished-2"]
        _, made = self._launched(self.fresh(), names)
        seen = f"of {', '.join(names)} it made {', '.join(name for name, _ in made) or 'none'}"
        require(sorted(name for name, _ in made) == names, "every run is made once", seen, "Call sweep.make once for each name")
        here = [name for name, process in made if process == os.getpid()]
        promise, remedy = "no run is made in the process that launches it", "Call sweep.make in another process"
        require(not here, promise, f"{', '.join(here)} was", remedy)

    def test_says_how_each_run_ended(self) -> None:
        """The outcomes are those that the runs gave, one for each."""
        names = ["diverged-1", "finished-2"]
        outcomes, _ = self._launched(self.fresh(), names)
        promise, remedy = "the launcher says how each run ended", "Yield what sweep.make returned, as it is"
        given, wanted = (sorted(one, key=lambda outcome: outcome.run) for one in (outcomes, map(pretended, names)))
        require(given == wanted, promise, f"of {wanted} it said {given}", remedy)

    def test_a_process_that_dies_costs_its_run_alone(self) -> None:
        """A run whose process dies is `killed`, and every other run is made."""
        names = ["killed-1", "finished-2"]
        outcomes, _ = self._launched(self.fresh(), names)
        said = {outcome.run: outcome.status for outcome in outcomes}
        promise = "a process that dies costs its own run alone, which counts as killed"
        remedy = "Notice that the process is gone, yield the status killed, and start another for the next run"
        require(said == {name: pretended(name).status for name in names}, promise, f"it said {said}", remedy)

    def test_ends_after_a_signal(self) -> None:
        """Once `stopped` gives a signal, it waits for no further run."""
        names = [f"finished-{number}" for number in range(_MANY)]
        with TemporaryDirectory() as folder:
            came: list[RunOutcome] = []
            sweep = self._sweep(Path(folder), names, came)
            with closing(iter(self.fresh().outcomes(sweep))) as outcomes:
                came += outcomes
        promise, remedy = "after a signal no further run begins here", "Ask sweep.stopped() before each run"
        require(len(came) < _MANY, promise, f"all {len(came)} runs were made", remedy)

    def test_a_sweep_without_runs(self) -> None:
        """Nothing to make is nothing to say."""
        outcomes, made = self._launched(self.fresh(), [])
        promise = "a sweep without runs has no outcomes"
        require(not outcomes and not made, promise, f"it gave {outcomes}", "Look whether sweep.runs is empty")

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _launched(self, made: Launcher, names: list[str]) -> tuple[list[RunOutcome], list[tuple[str, int]]]:
        """Launches runs. Returns the outcomes, and which runs were made in which process."""
        with TemporaryDirectory() as folder:
            sweep = self._sweep(Path(folder), names)
            with closing(iter(made.outcomes(sweep))) as outcomes:
                return list(outcomes), Pretended(Path(folder)).made()

    def _sweep(self, folder: Path, names: list[str], came: Iterable[RunOutcome] = ()) -> Sweep:
        """A sweep of runs that take no time. As soon as there is something in `came`, it is asked to end."""

        def stopped() -> int | None:
            return int(signal.SIGTERM) if came else None

        return Sweep(folder.resolve(), names, Pretended(folder.resolve()), stopped, lambda sentence: None)
