"""The kit over the built-in launchers."""

from __future__ import annotations

import pytest

from dfw.plugins.registry import registry
from dfw.testing import LauncherTests
from dfw.testing.check import Request, kit_for
from dfw.testing.run import run_checks
from dfw_launchers import slurm
from dfw_launchers.local import Local


class TestLocal(LauncherTests):
    component = Local


def test_a_launcher_without_what_it_needs_is_skipped_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "find_spec", lambda name: None)
    _, kit = kit_for(registry(), Request("slurm", "launcher"))
    outcomes = list(run_checks(kit))
    assert not [one for one in outcomes if one.status == "failed"]
    skipped = [one for one in outcomes if one.status == "skipped"]
    assert any("every run is made once" in one.check.replace("_", " ") for one in skipped), [one.check for one in outcomes]
    assert all("pip install 'dreamfw[slurm]'" in one.reason for one in skipped)
