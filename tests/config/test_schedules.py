"""Ramps against their closed forms."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dfw.config.schedules import Progress, Ramp, last_step, value_at


def ramp(**fields: object) -> Ramp:
    return Ramp.model_validate({"from": 2.0, "to": 6.0} | fields)


def at(schedule: Ramp, step: int, total: int = 100) -> float:
    return value_at(schedule, Progress(step, total))


def test_a_constant_is_itself():
    assert value_at(3.5, Progress(7, 10)) == 3.5
    assert value_at(3, Progress(7, 10)) == 3.0


@pytest.mark.parametrize(
    ("ease", "middle"),
    [
        ("linear", 2 + 4 * 0.25),
        ("cosine", 2 + 4 * (1 - math.cos(math.pi / 4)) / 2),
        ("sqrt", 2 + 4 * 0.5),
        ("log", 2 * 3**0.25),
    ],
)
def test_the_value_a_quarter_of_the_way(ease: str, middle: float):
    schedule = ramp(start=0.2, end=0.6, ease=ease)
    assert at(schedule, 30) == pytest.approx(middle, rel=1e-12)
    assert at(schedule, 0) == at(schedule, 20) == 2
    assert at(schedule, 60) == at(schedule, 99) == 6


def test_steps_and_fractions_agree():
    fraction, steps = ramp(start=0.1, end=0.9), ramp(start=10, end=90, unit="step")
    assert [at(fraction, n) for n in range(100)] == pytest.approx([at(steps, n) for n in range(100)])


def test_a_ramp_of_no_length_is_a_jump():
    jump = ramp(start=5, end=5, unit="step")
    assert [at(jump, n) for n in (4, 5, 6)] == [2, 6, 6]


@pytest.mark.parametrize(("fields", "last"), [({}, 0), ({"end": 70, "unit": "step"}, 70), ({"end": 0.7}, 0)])
def test_the_last_step_a_ramp_speaks_of(fields: dict[str, object], last: float):
    assert last_step(ramp(**fields)) == last
    assert last_step(1.0) == 0


@settings(deadline=None, derandomize=True)
@given(
    low=st.floats(1e-3, 1e3),
    high=st.floats(1e-3, 1e3),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    ease=st.sampled_from(["linear", "cosine", "sqrt", "log"]),
)
def test_a_ramp_stays_between_its_ends_and_never_turns(low: float, high: float, ends: list[float], ease: str):
    schedule = ramp(**{"from": low, "to": high, "start": ends[0], "end": ends[1], "ease": ease})
    values = [at(schedule, n, 50) for n in range(50)]
    sign = 1 if high >= low else -1
    slack = 1e-9 * max(low, high)
    assert all(sign * (b - a) >= -slack for a, b in pairwise(values))
    assert min(low, high) - slack <= min(values)
    assert max(values) <= max(low, high) + slack


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"start": 0.5, "end": 0.2}, "lies before start"),
        ({"end": 2}, r"beyond 1, the whole run; for steps write unit: step"),
        ({"from": 0, "ease": "log"}, "needs values above 0"),
        ({"start": -1}, "greater than or equal to 0"),
        ({"unit": "steps"}, "'fraction' or 'step'"),
        ({"frm": 1}, "Extra inputs"),
    ],
)
def test_ramps_that_make_no_sense(fields: dict[str, object], reason: str):
    with pytest.raises(ValidationError, match=reason):
        ramp(**fields)
