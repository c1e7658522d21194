"""The kit over priors that see several views at once, or no text: legitimate ones pass it whole."""

from __future__ import annotations

from typing import Any, ClassVar

from tiny_views import TinyMultiView, TinyNovelView

from dfw.testing import GuidanceTests


class TestMultiView(GuidanceTests):
    component = TinyMultiView
    views = 4
    trained = False


class TestTwoViewsAsItSaysItself(GuidanceTests):
    component = TinyMultiView
    options: ClassVar[dict[str, Any]] = {"together": 2}
    trained = False


class TestNovelView(GuidanceTests):
    component = TinyNovelView
    trained = False


def test_a_multi_view_prior_needs_no_expected_failure() -> None:
    assert not TestMultiView.expected_failures
    assert not TestNovelView.expected_failures
