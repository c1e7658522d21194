"""The kit over priors that see several views at once, or no text: legitimate ones pass it whole."""

from __future__ import annotations

from typing import Any, ClassVar

import guidance_mutants
from tiny_views import TinyMultiView, TinyNovelView

from dfw.testing import GuidanceTests, run_checks


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


def test_a_number_of_views_that_the_model_does_not_say_is_named() -> None:
    """`views` in a test is a statement about the model, which its `sees` has to agree with."""
    tests = type("OfFour", (GuidanceTests,), {"component": guidance_mutants.Twin, "prompts": guidance_mutants.TEXTS, "views": 4})
    failed = {outcome.check: outcome.reason for outcome in run_checks(tests) if outcome.status == "failed"}
    assert failed.keys() == {"test_views_of_a_scene_are_seen_together"}
    assert "the model sees 4 views (views); sees(config) is 1" in failed["test_views_of_a_scene_are_seen_together"]
