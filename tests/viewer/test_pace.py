"""Viewers take a bounded share of a run's time, whatever a picture costs."""

from __future__ import annotations

import pytest

from dfw.viewer.pace import LARGEST, MOVING, SHARE, SMALLEST, Pace, Unpaced


@pytest.mark.parametrize("step", [0.002, 0.15, 3.0])
@pytest.mark.parametrize("cost", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("moves", [True, False])
def test_what_is_spent_stays_below_its_share(step: float, cost: float, moves: bool):
    """`cost`: a picture takes this many times as long as it was allowed."""
    pace, trained, spent, pictures = Pace(), 0.0, 0.0, 0
    last = 0.0
    while trained < max(120, 200 * step):
        pace.stepped(step)
        trained += step
        limit = pace.moving() if moves else pace.resting(last, whole=False)
        if limit is not None:
            last = cost * limit
            pace.spent(last, drew=True)
            spent, pictures = spent + last, pictures + 1
    assert spent <= SHARE * trained + cost * LARGEST
    assert pictures > 3


def test_a_picture_of_a_moving_camera_is_quick_and_one_at_rest_grows():
    pace = Pace()
    assert pace.moving() is None
    pace.stepped(SMALLEST / SHARE * 1.01)
    assert pace.moving() == pytest.approx(1.01 * SMALLEST)
    for _ in range(100):
        pace.stepped(1.0)
    assert pace.credit == LARGEST
    assert pace.moving() == MOVING
    assert pace.resting(0.01, whole=False) == LARGEST
    pace.spent(0.0, drew=True)
    pace.spent(LARGEST - 0.03, drew=True)
    assert pace.resting(0.01, whole=False) is None
    assert pace.resting(0.01, whole=True) == pytest.approx(0.03)


def test_the_first_picture_which_also_compiles_does_not_hold_up_the_next_for_minutes():
    pace = Pace()
    pace.stepped(1.0)
    pace.spent(1e-5, drew=False)  # somebody came, and nothing was drawn yet
    pace.spent(20.0, drew=True)
    assert pace.credit == pytest.approx(SHARE - SMALLEST, abs=1e-4)
    pace.spent(20.0, drew=True)
    assert pace.credit == pytest.approx(SHARE - SMALLEST - 20.0, abs=1e-4)


def test_without_a_pace_pictures_come_at_once_and_end_at_full_size():
    pace = Unpaced()
    assert pace.moving() == MOVING
    assert pace.resting(0.001, whole=False) == MOVING
    assert pace.resting(MOVING, whole=False) == 10 * MOVING
    assert pace.resting(20 * MOVING, whole=False) == 1e6
    assert pace.resting(0.001, whole=True) == 1e6
