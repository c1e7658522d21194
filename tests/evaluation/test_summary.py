"""Means and intervals of scores, against what a bootstrap gives in closed form."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from evaluation_records import result
from scipy.stats import binom

from dfw.evaluation.summary import FIELDS, as_csv, as_json, interval, summarise
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
