"""The comparison of objectives: none is forgotten, calls are counted where they happen, one that breaks loses no other."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from objectives import CALLS, attempt, in_2d, objectives, plane_config  # noqa: E402
from objectives_table import Cell, contact_sheet, table  # noqa: E402
from quality import Judge  # noqa: E402

TINY = ("trainer.steps=2", "device=cpu")


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load()


def test_every_shipped_objective_is_compared() -> None:
    known = {"dreamfusion", "score", "diffusion", "sjc", "csd", "nfsd", "bridge", "hifa", "asd", "ism", "sdi"}
    known |= {"vsd", "esd", "tsm", "bsd", "sctd", "rfds", "rfds-rev"}
    assert set(objectives()) >= known
    assert not {"dreamfusion-sd", "playground-2d"} & set(objectives())


@pytest.mark.parametrize("name", ["dreamfusion", *(name for name in objectives() if name in CALLS)])
def test_network_calls_of_a_step_are_those_by_which_budgets_are_divided(name: str, judge: Judge) -> None:
    figures, pictures = in_2d(judge, plane_config(name, "a red mushroom", 1, TINY), "a red mushroom", 1)
    assert figures["calls"] == CALLS.get(name, 1)
    assert figures["seconds"] > 0
    assert pictures.shape == (1, 64, 64, 3)
    assert figures["likelihood"] < 0


def test_a_failure_is_recorded_and_shown(tmp_path: Path, judge: Judge) -> None:
    def broken() -> tuple[dict[str, float], torch.Tensor]:
        raise ValueError("no such thing")

    bad, good = tmp_path / "bad" / "x.json", tmp_path / "good" / "x.json"
    attempt(bad, Cell("bad", "a red mushroom", 3), broken)
    attempt(good, Cell("good", "a red mushroom", 3), lambda: ({"iou": 0.25, "calls": 2.0}, torch.zeros(8, 64, 64, 3)))
    assert "no such thing" in bad.with_suffix(".traceback").read_text()
    found = [
        (Cell(**json.loads(bad.read_text())), None),
        (Cell(**json.loads(good.read_text())), torch.load(good.with_suffix(".pt"), weights_only=True)),
    ]
    lines = table(judge, found).splitlines()
    assert lines[2] == "| bad | 3 |  |  |  | 1 of 1 |"
    assert lines[3].startswith("| good | 3 | ")
    assert lines[3].endswith(" | 0.25 | 2.0 |  |")
    assert lines[-1] == "- bad, a red mushroom: ValueError: no such thing"
    sheet = contact_sheet({"3d": found})
    assert sheet.getpixel((90, 20)) == (221, 221, 221)
    assert sheet.getpixel((90, 20 + 66)) == (0, 0, 0)
