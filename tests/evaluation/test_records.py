"""The record of an evaluation beside a run."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
from evaluation_records import result
from small_runs import PIXELS

import dfw
from dfw.errors import ConfigError
from dfw.evaluation.records import cost_of, read_result, read_results, write_result
from dfw.runs.directory import STAGES, RunDirectory
from dfw.runs.seal import sealed_line
from dfw.studies.records import find_runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    return dfw.run(PIXELS | {"output": str(tmp_path_factory.mktemp("runs"))}, listeners=[]).directory


def test_what_is_written_is_read(run: Path) -> None:
    one, other = result("a", "ein Würfel", 0, 0.5), result("a", "ein Würfel", 0, float("inf"), protocol="t3bench")
    assert write_result(run, one) == run / "evaluation" / "views16" / "results.json"
    write_result(run, other)
    assert read_result(run, "views16") == one
    found = read_results(run)
    assert list(found) == ["t3bench", "views16"]
    assert found["t3bench"]["scores"]["kind"]["value"] is None  # JSON has no word for infinity
    assert list(find_runs([run.parent])) == [run]  # a record is not a run


def test_a_damaged_record_is_a_warning(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_result(run, result("a", "duck", 0, 0.5, protocol="damaged"))
    text = path.read_text(encoding="utf-8")
    for wrong in (text.replace("0.5", "0.9"), text[:40], json.dumps({"format": 1}), ""):
        caplog.clear()
        path.write_text(wrong, encoding="utf-8")
        with caplog.at_level(logging.WARNING, "dfw"):
            assert read_result(run, "damaged") is None
        assert str(path) in caplog.text
    path.unlink()
    caplog.clear()
    assert read_result(run, "damaged") is None
    assert not caplog.records


def test_a_record_of_another_format_is_not_read(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_result(run, result("a", "duck", 0, 0.5, protocol="later") | {"format": 2})
    assert read_result(run, "later") is None
    assert "its format is 2, and this dfw reads 1" in caplog.text


def test_a_record_that_cannot_be_written_says_so(run: Path) -> None:
    (run / "evaluation").mkdir(exist_ok=True)
    (run / "evaluation" / "taken").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write .*taken.*results\.json: .*only who may write a run may evaluate it"):
        write_result(run, result("a", "duck", 0, 0.5, protocol="taken"))
    (run / "evaluation" / "taken").unlink()


def test_cost_is_what_the_run_wrote_down(run: Path) -> None:
    directory = RunDirectory.open(run)
    cost = cost_of(run)
    assert cost["seconds"] == directory.read_json("status.json")["seconds"]
    assert cost["peak_memory_mb"] == max(row["peak_memory"] for row in directory.read_metrics())
    assert cost["network_calls"] == sum(row["network_calls"] for row in directory.read_metrics()) > 0


def test_the_cost_of_a_run_with_stages_is_that_of_all(run: Path, tmp_path: Path) -> None:
    """The first stage takes the most memory, and the last one the least time."""
    for number, peak in enumerate((900.0, 300.0), start=1):
        stage = tmp_path / f"{number}-stage"
        shutil.copytree(run, stage, ignore=shutil.ignore_patterns("checkpoints", "*.jsonl"))
        row = {"step": 1, "peak_memory": peak}
        (stage / "metrics.jsonl").write_text(sealed_line(row, RunDirectory(stage).identity), encoding="utf-8")
    root = RunDirectory(tmp_path)
    root.write_config(STAGES, "stages: {}\n")
    root.write_json("status.json", {"status": "finished", "seconds": 1234.5})
    cost = cost_of(tmp_path)
    assert (cost["seconds"], cost["peak_memory_mb"]) == (1234.5, 900.0)
