"""Means and intervals of scores, against what a bootstrap gives in closed form."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import pytest
from evaluation_records import result
from scipy.stats import binom

from dfw.evaluation.summary import FIELDS, as_csv, as_json, interval, remarks_of, summarise
from dfw.runs.global_random import changed, global_states


def test_two_prompts_have_the_interval_from_one_to_the_other() -> None:
    """Each is drawn alone with probability 1/4, so that both ends of 95 % are the values themselves."""
    assert interval([0.25, 1.0]) == (0.25, 1.0)
    assert interval([3.0, 3.0, 3.0]) == (3.0, 3.0)
    assert interval([1.0]) == (None, None)
    assert interval([]) == (None, None)


def test_shares_have_the_interval_of_the_binomial_distribution() -> None:
    """The mean of a resample of n zeros and ones is a binomial count over n."""
    values = [1.0] * 15 + [0.0] * 5
    low, high = interval(values)
    expected = binom.ppf([0.025, 0.975], 20, 0.75) / 20
    assert [low, high] == pytest.approx(expected, abs=0.5 / 20)


def test_an_interval_depends_on_its_seed_alone() -> None:
    values = list(np.random.default_rng(1).normal(size=30))
    before = global_states()
    assert interval(values, seed=3) == interval(values, seed=3) != interval(values, seed=4)
    assert not changed(before, global_states())


def test_seeds_of_a_prompt_are_averaged_first() -> None:
    """Three seeds of one prompt weigh as much as one of another."""
    given = [result("a", "duck", seed, value) for seed, value in enumerate((0.0, 0.0, 0.3))] + [result("a", "car", 0, 0.9)]
    (row,) = summarise(given, costs=False)
    assert row.values == pytest.approx({"duck": 0.1, "car": 0.9})
    assert (row.mean, row.low, row.high) == pytest.approx((0.5, 0.1, 0.9))
    assert (row.prompts, row.runs) == (2, 4)


def test_rows_are_of_one_protocol_method_and_score() -> None:
    given = [
        result("a", "duck", 0, 0.5, details={"colour": 0.25, "of": "24 prompts", "right": True, "gone": None}),
        result("b", "duck", 0, 0.75),
        result("a", "duck", 0, 0.1, protocol="t3bench"),
        result("a", "car", 0, None),
        result("b", "car", 0, float("nan")),
    ]
    rows = {(row.protocol, row.method, row.scorer): row for row in summarise(given)}
    assert {key: row.mean for key, row in rows.items() if not key[2].startswith("cost.")} == {
        ("views16", "a", "kind"): 0.5,
        ("views16", "a", "kind.colour"): 0.25,
        ("views16", "b", "kind"): 0.75,
        ("t3bench", "a", "kind"): 0.1,
    }
    assert rows["views16", "a", "cost.seconds"].mean == 2.0
    assert rows["views16", "a", "cost.seconds"].better == "lower"
    assert not any(key[2] in ("cost.network_calls", "cost.peak_memory_mb") for key in rows)
    assert [row.scorer.startswith("cost.") for row in summarise(given)] == [False] * 4 + [True] * 3


def test_tables_hold_what_rows_hold() -> None:
    rows = summarise([result('a "b", c', "duck", 0, 0.5), result('a "b", c', "car", 0, 1.0), result("d", "car", 0, 2.0)], False)
    head, *lines = list(csv.reader(io.StringIO(as_csv(rows))))
    assert tuple(head) == FIELDS
    assert lines[0] == ["views16", 'a "b", c', "kind", "", "higher", "2", "2", "0.75", "0.5", "1.0"]
    assert lines[1][-3:] == ["2.0", "", ""]
    assert as_json(rows)[0]["values"] == {"duck": 0.5, "car": 1.0}


def test_a_table_for_a_spreadsheet_holds_no_formula() -> None:
    rows = summarise([result('=HYPERLINK("x")', "duck", 0, -0.5), result("+a", "duck", 0, 1.0)], costs=False)
    table = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert [(row["method"], row["mean"]) for row in table] == [("'+a", "1.0"), ('\'=HYPERLINK("x")', "-0.5")]


def test_means_over_different_prompts_are_said() -> None:
    same = [result(method, prompt, 0, 0.5) for method in "ab" for prompt in ("duck", "car")]
    assert remarks_of(summarise(same)) == []
    (said,) = remarks_of(summarise([*same, result("a", "tree", 0, 1.0)]))
    assert said == "the means of kind, cost.seconds are over different prompts: 3 of a, 2 of b; 2 are common to all"


def test_scores_that_were_asked_in_different_ways_are_not_averaged_together() -> None:
    """Two models are two scores, and so are two sizes; what all have alike is not said."""

    def scored(method: str, prompt: str, value: float, model: str, side: int = 8) -> dict[str, Any]:
        record = result(method, prompt, 0, value, scorer="clip-score", details={"extra": value})
        record["scores"]["clip-score"]["options"] = {"model": model, "batch": 4}
        return record | {"size": [side, side]}

    given = [scored("a", "duck", 20.0, "small"), scored("a", "car", 30.0, "large"), scored("b", "duck", 24.0, "small")]
    found = {(row.method, row.scorer): row.mean for row in summarise(given, costs=False) if "extra" not in row.scorer}
    assert found == {
        ("a", "clip-score (model=small)"): 20.0,
        ("a", "clip-score (model=large)"): 30.0,
        ("b", "clip-score (model=small)"): 24.0,
    }
    sizes = [scored("a", "duck", 20.0, "small"), scored("a", "car", 30.0, "small", side=16)]
    assert {row.scorer for row in summarise(sizes, costs=False) if "extra" not in row.scorer} == {
        "clip-score (width=8)",
        "clip-score (width=16)",
    }
    alike = [scored("a", "duck", 20.0, "small"), scored("a", "car", 30.0, "small")]
    assert {row.scorer: row.mean for row in summarise(alike, costs=False)} == {"clip-score": 25.0, "clip-score.extra": 25.0}
