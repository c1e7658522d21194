"""Runs in workers on this machine."""

from __future__ import annotations

import signal
from pathlib import Path

from dfw import RunOutcome, Sweep
from dfw.runs.pretended import Pretended
from dfw_launchers.local import Local


def test_ctrl_c_while_workers_begin_is_not_lost(tmp_path: Path) -> None:
    """A worker takes seconds to begin. It then makes no run, though it has been given one."""
    names, runs = ["finished-1", "finished-2"], Pretended(tmp_path)
    sweep = Sweep(tmp_path, names, runs, lambda: int(signal.SIGINT), lambda sentence: None)
    outcomes = list(Local(Local.Config(processes=2)).outcomes(sweep))
    assert sorted(outcomes, key=lambda one: one.run) == [RunOutcome(name, "interrupted") for name in names]
    assert runs.made() == []
