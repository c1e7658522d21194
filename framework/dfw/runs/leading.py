"""Functions that make runs, called in every process that torchrun has started: the first leads, the others follow it.

Imports no torch, since a dry run does not wait for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec

from dfw.ranks.environment import follows, rank_and_count
from dfw.ranks.processes import together

if TYPE_CHECKING:
    from dfw.runs.drive import RunResult

Given = ParamSpec("Given")


def in_all_processes(work: Callable[Given, RunResult]) -> Callable[Given, RunResult]:
    """Lets the leader alone do `work`, which makes runs; a process that follows trains what the leader says."""

    @functools.wraps(work)
    def done(*given: Given.args, **named: Given.kwargs) -> RunResult:
        if rank_and_count()[1] == 1:
            return work(*given, **named)
        if follows():
            from dfw.runs.following import follow

            return follow()
        with together().leading():
            return work(*given, **named)

    return done
