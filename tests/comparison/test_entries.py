"""What a comparison knows of runs: columns, differences, and what a sweep has not made yet."""

from __future__ import annotations

from pathlib import Path

import pytest
from copied_runs import copied_run, entry
from evaluation_records import result

from dfw.comparison.entries import entries_of
from dfw.errors import ConfigError
from dfw.evaluation.records import write_result
from dfw.studies.methods import _flat, different, methods_of
from dfw.studies.records import record_of


def test_each_run_of_a_sweep_is_there_with_how_it_stands(study: Path) -> None:
    found = {(one.record.subject, one.method, one.record.seed): one for one in entries_of([study, study / "z-bad"])}
    assert len(found) == 8 + 1 + 2
    red = found["a red square", "one", 0]
    assert (red.record.status, red.record.tags, red.made) == ("finished", ("good", "figure-3"), True)
    assert red.settings["losses.sds.guidance_scale"] == "7.5"
    assert red.turntable is not None
    assert red.report is not None
    assert {one.name for one in red.series} >= {"loss", "losses.sds", "grad_norm"}
    (bad,) = (one for one in found.values() if one.record.status == "diverged")
    assert bad.record.diagnosis.startswith("loss is NaN </script>")
    pending, refused = (found["a green square", method, 0] for method in ("one", "two"))
    assert (pending.record.status, pending.made, pending.record.diagnosis) == ("pending", False, "")
    assert (refused.record.status, refused.record.diagnosis) == ("failed", "the model is not there")


def test_a_column_says_what_differs_between_runs_of_one_prompt_and_seed() -> None:
    one, other = "7.5", "30"
    runs = [
        entry("a", "duck", scale=one, lr="1", start__run="first"),
        entry("a", "duck", scale=other, lr="1", start__run="first"),
        entry("a", "car", scale=one, lr="1", start__run="second"),  # differs by prompt: no other column
        entry("a", "car", scale=one, lr="1", start__run="second"),  # the same again: the same cell
        entry("b", "duck", scale=other, lr="2", start__run="first"),
        entry("c", "duck", losses__x__weight="1", losses__y__weight="1"),
        entry("c", "duck", losses__x__weight="1", losses__y__weight="2"),
        entry("c", "duck", losses__x__weight="2", losses__y__weight="1"),
    ]
    assert methods_of([(run.record, run.settings) for run in runs]) == [
        *("a scale=7.5", "a scale=30", "a scale=7.5", "a scale=7.5", "b"),
        *(f"c losses.x.weight={x}, losses.y.weight={y}" for x, y in ((1, 1), (1, 2), (2, 1))),
    ]


def test_columns_have_names_of_their_own() -> None:
    many = [entry("a", "duck", one="1", two="1", three="1", four=value) for value in ("1", "2")]
    many += [entry("a", "duck", one="2", two="2", three="2", four="1")]
    labels = methods_of([(run.record, run.settings) for run in many])
    assert len(set(labels)) == 3


def test_settings_that_differ_are_those_that_are_not_the_same_in_all() -> None:
    first = {"prompt": "x", "seed": "1", "output": "o", "lr": "1", "steps": "5"}
    second = {"prompt": "y", "seed": "2", "output": "p", "lr": "2", "steps": "5", "more": "m"}
    assert different([first, second]) == ["lr", "more"]
    assert different([first, first]) == []


def test_scores_of_an_earlier_step_are_not_compared(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = copied_run(made, tmp_path / "run")
    step = record_of(run).step
    record = result("a", "duck", 0, 0.5)
    write_result(run, record | {"run": record["run"] | {"step": step}})
    (one,) = entries_of([run])
    assert [found["scores"]["kind"]["value"] for found in one.results] == [0.5]
    write_result(run, record | {"run": record["run"] | {"step": 1}})
    (one,) = entries_of([run])
    assert not one.results
    assert f"its views16 scores are of step 1, and it went on to step {step}; evaluate it again" in caplog.text


def test_a_ramp_is_one_setting() -> None:
    tree = {"a": {"b": {"from": 10, "to": 3.5, "start": 0}, "c": None, "d": [1, True]}, "e": {}}
    assert dict(_flat(tree)) == {"a.b": "{from: 10, to: 3.5, start: 0}", "a.c": "null", "a.d": "[1, true]", "e": "{}"}


def test_folders_without_runs_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere: there is no such folder; name a run, a sweep"):
        entries_of([tmp_path / "nowhere"])
    with pytest.raises(ConfigError, match="holds no run; name a run, a sweep"):
        entries_of([tmp_path])
