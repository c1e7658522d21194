"""Every moment of a process counts for exactly one part."""

from __future__ import annotations

import time

import pytest

from dfw.runs.times import Times


def test_parts_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    times = Times(98.0)
    clock[0] = 103.0
    times.begin("steps")
    clock[0] = 104.0
    with times("previews"):
        clock[0] = 104.5
    clock[0] = 106.0
    times.begin("start")
    clock[0] = 106.25
    assert times.seconds() == {"start": 5.25, "steps": 2.5, "previews": 0.5}
    clock[0] = 107.0
    assert sum(times.seconds().values()) == 107.0 - 98.0
