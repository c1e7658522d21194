"""Where a curve's points lie on its chart."""

from __future__ import annotations

import json

from dfw.report.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Series, curve


def test_points_lie_between_the_ticks_that_their_values_lie_between() -> None:
    found = curve(Series("loss", [0, 5, 10], [0.0, 2.0, 4.0]))
    assert found is not None
    points = json.loads(found.points)
    assert [(x, step, value) for x, _, step, value in points] == [
        (LEFT, 0, 0.0),
        ((LEFT + WIDTH - RIGHT) / 2, 5, 2.0),
        (WIDTH - RIGHT, 10, 4.0),
    ]
    ticks = {tick.label: tick.at for tick in found.y_ticks}
    assert ticks["0"] == HEIGHT - BOTTOM
    assert ticks["4"] == TOP
    assert [y for _, y, _, _ in points] == [HEIGHT - BOTTOM, (HEIGHT - BOTTOM + TOP) / 2, TOP]
