"""What the first, second and third signal do."""

from __future__ import annotations

import signal

import pytest

from dfw.runs.signals import Interrupted, Stop


def test_a_first_signal_waits_except_where_it_may_end_things_at_once() -> None:
    stop = Stop()
    with stop.at_once(), stop.at_once():
        pass
    stop.handle(signal.SIGTERM, None)
    assert stop.number == signal.SIGTERM
    with pytest.raises(Interrupted) as raised, stop.at_once():
        raise AssertionError("a signal that came before ends it on entering")
    assert raised.value.number == signal.SIGTERM
    stop.check()  # outside again, it waits


def test_a_first_signal_inside_raises_there() -> None:
    stop = Stop()
    with pytest.raises(Interrupted), stop.at_once():
        stop.handle(signal.SIGINT, None)
    stop.check()


def test_a_second_signal_raises_anywhere() -> None:
    stop = Stop()
    stop.handle(signal.SIGTERM, None)
    with pytest.raises(Interrupted) as raised:
        stop.handle(signal.SIGINT, None)
    assert (raised.value.number, stop.insisted) == (signal.SIGTERM, True)


def test_what_is_held_is_finished_first() -> None:
    stop, done = Stop(), []

    def work() -> None:
        with stop.at_once(), stop.held():
            with stop.held():
                stop.handle(signal.SIGINT, None)
                done.append("inner")
            done.append("outer")

    with pytest.raises(Interrupted):
        work()
    assert done == ["inner", "outer"]
