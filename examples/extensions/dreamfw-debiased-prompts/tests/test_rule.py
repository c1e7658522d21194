"""The rule with probabilities chosen by hand, and a table's probabilities multiplied by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from dreamfw_debiased_prompts.rule import contradictions, plain, without
from dreamfw_debiased_prompts.scorers import Table

CHANCES = {
    "a smiling dog": {"front": 0.8, "side": 0.15, "back": 0.05},
    "smiling dog": {"front": 0.8, "side": 0.14, "back": 0.06},
    "a dog": {"front": 0.4, "side": 0.3, "back": 0.3},
    "a smiling": {"front": 0.7, "side": 0.2, "back": 0.1},
}
"""P(view | prompt), made up."""


def score(prompts: Sequence[str]) -> list[dict[str, float]]:
    return [CHANCES[prompt] for prompt in prompts]


WORDS = ("a", "smiling", "dog")


def test_words_go_where_their_ratio_is_below_the_threshold() -> None:
    """P(v | prompt) / mean: smiling 0.8/0.6, 0.15/0.225, 0.05/0.175; dog 0.8/0.75, 0.15/0.175, 0.05/0.075; a 1, 30/29, 10/11."""
    assert contradictions(WORDS, [0, 1, 2], score, 0.95) == {"front": set(), "side": {1, 2}, "back": {0, 1, 2}}
    assert contradictions(WORDS, [1, 2], score, 0.70) == {"front": set(), "side": {1}, "back": {1, 2}}
    assert contradictions(WORDS, [1, 2], score, 0.66) == {"front": set(), "side": set(), "back": {1}}
    assert contradictions(WORDS, [1, 2], score, 0.28) == {"front": set(), "side": set(), "back": set()}


def test_the_threshold_itself_keeps_the_word() -> None:
    """0.15 / 0.225 is 2/3 exactly when written as a share of 6: 2 x 2 = 2/3 x (2 + 4)."""

    def shares(prompts: Sequence[str]) -> list[dict[str, float]]:
        return [{"side": 2.0}, {"side": 4.0}][: len(prompts)]

    assert contradictions(("x",), [0], shares, 2 / 3) == {"side": set()}
    assert contradictions(("x",), [0], shares, 2 / 3 + 1e-9) == {"side": {0}}


def test_dropping_leaves_a_prompt() -> None:
    assert without(("a", "smiling", "dog"), {1}) == "a dog"
    assert without(("a", "dog,", "front", "view"), {2, 3}) == "a dog"
    assert without(("smiling",), {0}) == "smiling"  # nothing else would be left
    assert plain("Smiling,") == "smiling"


def test_a_table_is_naive_bayes() -> None:
    """front 20 x 3, side 1 x 1, back 0.5 x 1 over their sum 61.5; words that are not in it change nothing."""
    table = Table(("front", "side", "back"), {"smiling": {"front": 20, "back": 0.5}, "Face": {"front": 3}})
    both, one, none = table(["a Smiling, happy face", "a face", "a dog"])
    assert both == pytest.approx({"front": 60 / 61.5, "side": 1 / 61.5, "back": 0.5 / 61.5})
    assert one == pytest.approx({"front": 0.6, "side": 0.2, "back": 0.2})
    assert none == pytest.approx(dict.fromkeys(("front", "side", "back"), 1 / 3))
