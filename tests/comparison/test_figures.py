"""The table of figures against means that are known beforehand, and its two files."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from copied_runs import entry

from dfw.comparison.entries import Entry
from dfw.comparison.figures import escaped, figures_of, rows_of, write_table
from dfw.errors import ConfigError


def scored(method: str, prompt: str, seed: int, value: float, seconds: float) -> Entry:
    one = entry(method, prompt, seed)
    run = {"name": method, "prompt": prompt, "seed": seed}
    score = {"value": value, "unit": "", "better": "higher", "per_view": None, "details": {}}
    result: dict[str, Any] = {"protocol": "views16", "run": run, "scores": {"likeness_%": score}, "cost": {}}
    return replace(one, method=method, record=replace(one.record, seconds=seconds), results=[result])


RUNS = [
    *(scored("a_b", "duck", seed, value, 10.0) for seed, value in ((0, 0.2), (1, 0.4))),  # mean of the prompt: 0.3
    scored("a_b", "car", 0, 0.5, 30.0),
    scored("=1+1", "duck", 0, 0.8, 10.0),
    scored("=1+1", "car", 0, 0.8, 20.0),
]


def test_means_are_over_prompts_and_the_best_is_marked() -> None:
    unfinished = replace(RUNS[0], record=replace(RUNS[0].record, status="diverged", seconds=1e9))
    score, time = figures_of(rows_of([*RUNS, unfinished]))
    assert (score.title, score.rows["a_b"].mean, score.rows["=1+1"].mean) == (
        "likeness_%",
        pytest.approx(0.4),
        pytest.approx(0.8),
    )
    assert score.best == {"=1+1"}
    assert (time.title, time.unit, time.rows["a_b"].mean, time.rows["a_b"].runs) == ("time", "s", pytest.approx(20.0), 3)
    assert time.best == {"=1+1"}
    assert (time.rows["a_b"].low, time.rows["a_b"].high) == (pytest.approx(10.0), pytest.approx(30.0))
    assert figures_of(rows_of(RUNS[:1]))[0].best == set()


def test_latex_is_escaped_and_the_best_is_bold(tmp_path: Path) -> None:
    write_table(tmp_path / "t.tex", RUNS)
    lines = (tmp_path / "t.tex").read_text(encoding="utf-8").splitlines()
    assert lines[1:] == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"method & likeness\_\% $\uparrow$ & time $\downarrow$ (s) \\",
        r"\midrule",
        r"a\_b & 0.4 {\scriptsize [0.3, 0.5]} & 20 {\scriptsize [10, 30]} \\",
        r"=1+1 & \textbf{0.8} {\scriptsize [0.8, 0.8]} & \textbf{15} {\scriptsize [10, 20]} \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert write_table(tmp_path / "t.tex", RUNS) == tmp_path / "t-2.tex"  # nothing is lost
    hostile = "a\\input{x}\n$1 & 2% #3 ~^_ <b>"
    text = r"a\textbackslash{}input\{x\} \$1 \& 2\% \#3 \textasciitilde{}\textasciicircum{}\_ \textless{}b\textgreater{}"
    assert escaped(hostile) == text


def test_no_cell_of_the_csv_is_a_formula(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", RUNS)
    rows = list(csv.DictReader((tmp_path / "t.csv").open(encoding="utf-8")))
    scores = {row["method"]: (float(row["mean"]), row["prompts"]) for row in rows if row["scorer"] == "likeness_%"}
    assert scores == {"'=1+1": (pytest.approx(0.8), "2"), "a_b": (pytest.approx(0.4), "2")}


def test_another_ending_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"t\.xlsx: a table ends in \.tex or \.csv"):
        write_table(tmp_path / "t.xlsx", RUNS)
