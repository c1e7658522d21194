"""docs/testing.md lists every check of every kind, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

from dfw.testing import ComponentTests, checks_of
from dfw.testing.check import KITS
from dfw.testing.devices import DeviceChecks, DtypeChecks
from dfw.testing.state import StateChecks
from dfw.testing.trained import GroupChecks

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
SHARED = (ComponentTests, StateChecks, DtypeChecks, DeviceChecks, GroupChecks)


def test_the_page_lists_every_check() -> None:
    """Each under its kind, those of several kinds under "Every kind"."""
    page = PAGE.read_text(encoding="utf-8")
    sections = {part.partition("\n")[0]: part for part in page.split("\n## ")[1:]}
    listed = {
        title: set(re.findall(r"test_\w+", "".join(re.findall(r"^\| `test_.*?\|", part, re.MULTILINE))))
        for title, part in sections.items()
    }
    shared = set().union(*map(checks_of, SHARED))
    assert listed["Every kind"] == shared
    for kind, kit in KITS.items():
        assert listed[kind.capitalize()] == set(checks_of(kit)) - shared, kind
