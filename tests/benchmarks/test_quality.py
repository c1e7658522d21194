"""The quality benchmark's table: the means of runs at several seeds, worked out by hand."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

from dfw.config.load import shipped_directory
from dfw.studies.axes import axis

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from asset import Figures  # noqa: E402
from quality import Score, asset_table, prompts, record, table  # noqa: E402

FIGURES = Figures(20.0, 0.8, 10.0, math.nan, 0.25, True, 1)


def score(prompt: str, seed: int, held_out: bool, iou: float, colour: float = 0.1, two_faced: bool = False) -> Score:
    return Score(prompt, seed, held_out, iou, colour, two_faced, 40.0 + seed, 80.0, "", FIGURES)


def test_a_row_has_the_iou_of_each_seed_and_the_mean_of_the_rest() -> None:
    scores = [score("a", 0, False, 0.5), score("b", 0, True, 0.75), score("a", 1, False, 0.75, 0.3, True), score("b", 1, True, 1)]
    precision = {("a", 0): 1.0, ("a", 1): 0.5, ("b", 0): 1.0, ("b", 1): 1.0}
    rows = {line.split("|")[1].strip(): line for line in table(scores, precision).splitlines()[2:]}
    assert rows["a"] == "| a |  | 0.50, 0.75 | 0.200 | 0.75 | 50% | 40 | 80 |"
    assert rows["b"] == "| b | yes | 0.75, 1.00 | 0.100 | 1.00 | 0% | 40 | 80 |"
    assert rows["**all** (4)"].split(" | ")[2:6] == ["**0.75** (min 0.50)", "0.150", "0.88", "25%"]
    assert rows["**seen** (2)"].split(" | ")[2] == "**0.62** (min 0.50)"
    assert rows["**held out** (2)"].split(" | ")[2] == "**0.88** (min 0.75)"
    assert rows["**seed 1** (2)"].split(" | ")[2] == "**0.88** (min 0.75)"


def test_one_seed_has_no_means_of_its_own() -> None:
    rows = table([score("a", 0, False, 0.5)], {("a", 0): 1.0}).splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["a", "**all** (1)", "**seen** (1)"]


def test_each_seed_has_its_own_record() -> None:
    assert record(Path("out"), "a red mug", 3) == Path("out/a-red-mug-3.json")


def test_the_means_of_assets_leave_out_what_an_object_does_not_have() -> None:
    other = replace(score("b", 1, False, 0.5), asset=Figures(22.0, 0.9, 20.0, 0.5, 0.75, False, 3, 0.1, 4))
    rows = asset_table([score("a", 0, False, 0.5), other]).splitlines()
    assert rows[2] == "| a | 0 | 20.0 | 0.800 | 10.0 |  | 0.25 |  | 100% | 1 |  |"
    assert rows[-1] == "| **all** (2) |  | 21.0 | 0.850 | 15.0 | 0.50 | 0.50 | 0.100 | 50% | 2 | 4 |"


def test_the_shipped_list_of_prompts_is_what_is_judged() -> None:
    assert list(axis("prompt=@embedded", shipped_directory() / "prompts").values) == [text for text, _ in prompts()]
