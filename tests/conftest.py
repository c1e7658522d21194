"""Fixtures of more than one test file."""

from __future__ import annotations

import signal

import pytest
import torch
from fresh import framework_wheel
from hostile_site import site
from prior_parts import small_world


def pytest_configure(config: pytest.Config) -> None:
    """Undoes that a shell ignores Ctrl-C for what it runs in the background: tests send it to themselves and to programs."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Starts torch's own random stream anew in each test: which tests ran before in the same process changes nothing."""
    torch.manual_seed(0)


__all__ = ["framework_wheel", "site", "small_world"]
