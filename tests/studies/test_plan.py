"""The plan: one name for each run, whatever it is asked for together with."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dfw.errors import CheckpointError, ConfigError
from dfw.studies.axes import axis
from dfw.studies.plan import PLAN, Planned, add_to_plan, begin_plan, extended, planned, read_plan, write_plan


def test_names_say_what_differs_and_are_all_different() -> None:
    made = planned(["dreamfusion", "sjc"], [axis("prompt=a red duck,A RED DUCK!"), axis("seed=0..1"), axis("trainer.steps=5")])
    names = [run.name for run in made]
    assert len(set(names)) == len(made) == 8
    assert names[0].startswith("dreamfusion-a-red-duck-0-")
    assert names[-1].startswith("sjc-a-red-duck-1-")
    assert made[0].command == "dfw run dreamfusion 'prompt=a red duck' seed=0 trainer.steps=5"


def test_a_run_keeps_its_name_when_the_sweep_grows_along_an_axis() -> None:
    few = planned(["dreamfusion"], [axis("prompt=a duck,a car"), axis("seed=0..1")])
    many = planned(["dreamfusion"], [axis("prompt=a duck,a car,a tree"), axis("seed=0..2")])
    assert {run.name for run in few} < {run.name for run in many}
    grown = extended(few, many)
    assert grown[: len(few)] == few
    assert len(grown) == 9


def test_a_run_keeps_its_name_when_a_single_value_gets_others() -> None:
    few = planned(["dreamfusion"], [axis("prompt=a duck"), axis("seed=0..1")])
    grown = extended(few, planned(["dreamfusion"], [axis("prompt=a duck,a car"), axis("seed=0..1")]))
    assert grown[:2] == few
    assert [run.overrides for run in grown[2:]] == [("prompt=a car", "seed=0"), ("prompt=a car", "seed=1")]


def test_two_sweeps_that_begin_in_the_same_second_have_a_folder_each(tmp_path: Path) -> None:
    plans = [planned(["dreamfusion"], [axis(f"seed={seed}")]) for seed in range(2)]
    folders = [begin_plan(tmp_path / "20260101-120000", plan) for plan in plans]
    assert folders[0] != folders[1]
    assert [read_plan(folder) for folder in folders] == plans


def test_the_order_of_overrides_makes_no_other_run() -> None:
    (one,) = planned(["dreamfusion"], [axis("seed=1"), axis("prompt=a duck")])
    (other,) = planned(["dreamfusion"], [axis("prompt=a duck"), axis("seed=1")])
    assert one.name == other.name


def test_a_file_is_the_same_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("extends: dreamfusion\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (here,) = planned(["mine.yaml"], [])
    (there,) = planned([str(tmp_path / "mine.yaml")], [])
    assert here == there
    assert here.config == str(tmp_path / "mine.yaml")


def test_a_key_that_stands_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"seed: stands there twice; write all its values in one: seed=1,2"):
        planned(["dreamfusion"], [axis("seed=1"), axis("seed=2")])


def test_a_configuration_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="did you mean 'dreamfusion'"):
        planned(["dreamfusion", "dreamfuson"], [])


def test_the_file_gives_back_the_plan_and_its_damage_is_noticed(tmp_path: Path) -> None:
    made = planned(["dreamfusion"], [axis("prompt=ein Käfer,a \\ b"), axis("seed=0..1")])
    assert read_plan(tmp_path / "sweep") == []
    write_plan(tmp_path / "sweep", made)
    assert read_plan(tmp_path / "sweep") == made
    file = tmp_path / "sweep" / PLAN
    for damaged in (file.read_text().replace("seed=1", "seed=3", 1), "", "[]", file.read_text()[:-9]):
        file.write_text(damaged)
        with pytest.raises(CheckpointError, match=r"sweep.json: damaged.*its runs are whole: move it away"):
            read_plan(tmp_path / "sweep")


def test_processes_that_extend_a_plan_at_the_same_moment_lose_no_run(tmp_path: Path) -> None:
    runs = planned(["dreamfusion"], [axis("seed=0..15")])
    together = threading.Barrier(len(runs))

    def extend(run: Planned) -> None:
        together.wait()
        add_to_plan(tmp_path / "s", [run])

    many = [threading.Thread(target=extend, args=(run,)) for run in runs]
    for one in many:
        one.start()
    for one in many:
        one.join()
    assert {run.name for run in read_plan(tmp_path / "s")} == {run.name for run in runs}
