"""What no view can see, on boxes whose answer is plain. The grids have three different sides: no axis passes for another."""

from __future__ import annotations

import numpy as np
import pytest

from dfw.export.unseen import unseen

SIDES = (20, 15, 13)
LOW, HIGH = (4, 3, 2), (14, 10, 9)


def shell() -> tuple[np.ndarray, np.ndarray]:
    """A closed hollow box, and its inside."""
    occupied, inside = np.zeros(SIDES, bool), np.zeros(SIDES, bool)
    occupied[tuple(slice(a, b) for a, b in zip(LOW, HIGH, strict=True))] = True
    inside[tuple(slice(a + 1, b - 1) for a, b in zip(LOW, HIGH, strict=True))] = True
    return occupied & ~inside, inside


def test_the_inside_of_a_closed_box_is_not_seen_and_all_else_is() -> None:
    occupied, inside = shell()
    assert (unseen(occupied, -90.0) == inside).all()


@pytest.mark.parametrize(("axis", "far"), [(0, True), (0, False), (1, True), (1, False), (2, True)])
def test_an_open_side_lets_light_in(axis: int, far: bool) -> None:
    occupied, inside = shell()
    lid = [slice(a + 1, b - 1) for a, b in zip(LOW, HIGH, strict=True)]
    lid[axis] = slice(HIGH[axis] - 1, HIGH[axis]) if far else slice(LOW[axis], LOW[axis] + 1)
    occupied[tuple(lid)] = False
    found = unseen(occupied, 0.0)
    assert found[inside].mean() < 0.1  # only corners behind the rim
    assert not found[~inside & ~occupied].any()


def test_an_open_bottom_is_seen_only_from_below() -> None:
    occupied, inside = shell()
    occupied[LOW[0] + 1 : HIGH[0] - 1, LOW[1] + 1 : HIGH[1] - 1, LOW[2]] = False
    assert unseen(occupied, 0.0)[inside].all()
    assert not unseen(occupied, -80.0)[inside].any()
