"""Fixtures of more than one test file."""

from __future__ import annotations

import signal

import pytest
import torch
from fresh import framework_wheel
from hostile_site import site
from prior_parts import small_world

LONGEST = (
    "test_extensions.py",
    "test_recipes.py",
    "test_plugins_new.py",
    "test_sweep.py",
    "test_one_run.py",
    "test_tutorials.py",
)
"""Files that begin first, so that no worker of xdist is left alone with one of them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first. Else the order of the tests stays."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_configure(config: pytest.Config) -> None:
    """Keeps xdist from putting files with few tests last, since the longest have few.

    Undoes that a shell ignores Ctrl-C for what it runs in the background: tests send it to themselves and to programs.
    """
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Starts torch's own random stream anew in each test: which tests ran before in the same process changes nothing."""
    torch.manual_seed(0)


__all__ = ["framework_wheel", "site", "small_world"]
