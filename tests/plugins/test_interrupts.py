"""Signals that come while a plugin works, and handlers that it changes."""

from __future__ import annotations

import signal

from dfw.plugins.interrupts import Interrupts


def test_fences_inside_each_other_pass_a_signal_on_once() -> None:
    heard: list[str] = []

    def first(number: int, frame: object) -> None:
        heard.append("first")

    def gives_way(number: int, frame: object) -> None:
        heard.append("gives way")
        signal.signal(signal.SIGTERM, first)

    before = signal.signal(signal.SIGTERM, first)
    try:
        with Interrupts() as outer, Interrupts() as inner:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
        assert (heard, outer.came, inner.came, outer.changed, inner.changed) == (["first"] * 2, True, True, [], [])
        assert signal.signal(signal.SIGTERM, gives_way) == first
        with Interrupts() as outer, Interrupts() as inner:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
        assert (heard[2:], outer.changed, inner.changed) == (["gives way", "first"], [], [])
        assert signal.getsignal(signal.SIGTERM) == first
        with Interrupts() as outer, Interrupts() as inner:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert (outer.changed, inner.changed) == ([], ["the handler of SIGTERM to SIG_IGN"])
        assert signal.getsignal(signal.SIGTERM) == first
    finally:
        signal.signal(signal.SIGTERM, before)
