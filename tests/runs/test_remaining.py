"""The estimate of the time left, against a run whose pace is known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dfw.config.load import load_config
from dfw.runs import remaining
from dfw.runs.remaining import SECONDS_PER_TRIANGLE, Remaining
from dfw.testing.fields import soft_ball


def estimate(**change: Any) -> Remaining:
    export = {"turntable_frames": 10, "turntable_width": 20, "faces": 5000}
    options = [f"export.{key}={value}" for key, value in export.items()]
    config = load_config("dreamfusion", ["trainer.steps=100", "trainer.preview_width=50", *options])
    scene = SimpleNamespace(geometry=soft_ball((0.0, 0.0, 0.0)), config=config, flat=False)
    return Remaining(config, cast(Any, SimpleNamespace(**vars(scene) | change)), exports=True)


def test_steps_pictures_and_mesh_are_added_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    left, clock = estimate(), [0.0]
    monkeypatch.setattr(remaining.time, "monotonic", lambda: clock[0])
    mesh = SECONDS_PER_TRIANGLE * 5000
    assert left.after(0, 50.0) == pytest.approx(mesh)  # the first step, which loads and compiles, says nothing of the pace
    assert left.after(10, 70.0) == pytest.approx(2.0 * 89 + mesh)
    with left.watching_a_preview():
        clock[0] = 3.0
    pixels = 10 * 20**2 + 8 * 128**2
    assert left.after(20, 90.0) == pytest.approx(2.0 * 79 + mesh + 3.0 * pixels / (4 * 50**2))
    assert left.after(99, 248.0) == pytest.approx(mesh + 3.0 * pixels / (4 * 50**2))


def test_a_picture_has_neither_turntable_nor_mesh() -> None:
    left = estimate(flat=True, geometry=SimpleNamespace(has_shape=False))
    left.after(0, 0.0)
    assert left.after(1, 1.0) == pytest.approx(98.0)


def test_a_pause_is_not_the_pace_of_the_steps_and_one_in_another_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    left, clock = estimate(flat=True, geometry=SimpleNamespace(has_shape=False)), [0.0]
    monkeypatch.setattr(remaining.time, "monotonic", lambda: clock[0])
    with left.pausing():
        clock[0] = 40.0
    left.after(0, 50.0)
    with left.pausing():
        clock[0] = 60.0
        with left.pausing():
            clock[0] = 140.0
    assert left.after(10, 170.0) == pytest.approx(2.0 * 89)  # 120 s, of which 100 were paused
