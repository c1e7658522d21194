"""A right launcher, and wrong ones: each differs in one thing."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dfw import ComponentConfig, Launcher, RunOutcome, Sweep

_context: Any = multiprocessing.get_context("fork")  # a new process in milliseconds; its runs use no torch


class Twin(Launcher):
    """One process for each run, one after the other."""

    class Config(ComponentConfig):
        """How long it waits."""

        patience: float = 60.0
        """Seconds until a process must have ended."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def outcomes(self, sweep: Sweep) -> Generator[RunOutcome, None, None]:
        for name in sweep.runs:
            if self.stops(sweep):
                return
            outcome = self.made(name, sweep)
            seconds = self.clock(torch.tensor(outcome.seconds, dtype=torch.float64))
            yield replace(outcome, seconds=float(seconds))

    def stops(self, sweep: Sweep) -> bool:
        return sweep.stopped() is not None

    def clock(self, seconds: Tensor) -> Tensor:
        return seconds

    def made(self, name: str, sweep: Sweep) -> RunOutcome:
        ours, theirs = _context.Pipe(duplex=False)
        process = _context.Process(target=lambda: theirs.send(sweep.make(name)))
        process.start()
        theirs.close()
        try:
            outcome: RunOutcome = ours.recv()
        except EOFError:
            outcome = RunOutcome(name, "killed", "its process ended")
        process.join(self.config.patience)
        return outcome


class MakesThemHere(Twin):
    def made(self, name: str, sweep: Sweep) -> RunOutcome:
        return super().made(name, sweep) if name.startswith("killed") else sweep.make(name)


class MakesThemTwice(Twin):
    def made(self, name: str, sweep: Sweep) -> RunOutcome:
        super().made(name, sweep)
        return super().made(name, sweep)


class LosesTheDiagnosis(Twin):
    def made(self, name: str, sweep: Sweep) -> RunOutcome:
        return replace(super().made(name, sweep), diagnosis="")


class CallsEverythingFinished(Twin):
    """Also what died."""

    def made(self, name: str, sweep: Sweep) -> RunOutcome:
        return replace(super().made(name, sweep), status="finished")


class EndsWithTheFirstThatDies(Twin):
    def outcomes(self, sweep: Sweep) -> Generator[RunOutcome, None, None]:
        for outcome in super().outcomes(sweep):
            yield outcome
            if outcome.status == "killed":
                return


class HearsNoSignal(Twin):
    def stops(self, sweep: Sweep) -> bool:
        return False


class BeginsWithTheFirst(Twin):
    """Without looking whether there is one."""

    def outcomes(self, sweep: Sweep) -> Generator[RunOutcome, None, None]:
        assert sweep.runs[0]
        return super().outcomes(sweep)


MUTANTS: dict[type[Twin], set[str]] = {
    MakesThemHere: {"test_every_run_is_made_once"},
    MakesThemTwice: {"test_every_run_is_made_once"},
    LosesTheDiagnosis: {"test_says_how_each_run_ended"},
    CallsEverythingFinished: {"test_says_how_each_run_ended", "test_a_process_that_dies_costs_its_run_alone"},
    EndsWithTheFirstThatDies: {"test_a_process_that_dies_costs_its_run_alone"},
    HearsNoSignal: {"test_ends_after_a_signal"},
    BeginsWithTheFirst: {"test_a_sweep_without_runs"},
}
"""Wrong launcher -> the checks that catch it, and no other."""
