"""Asked for or not, installed or not, failing or not: the run goes on, and one sentence says what is wrong."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import tracked
from dreamfw_trackers import asked


@pytest.fixture(autouse=True)
def _fresh() -> None:
    asked._names.cache_clear()


def test_without_being_asked_nothing_is_imported_or_written(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import tracked, pathlib; tracked.run_once(pathlib.Path(sys.argv[2]));"
    code += "print([name for name in sys.modules if name.split('.')[0] in ('wandb', 'tensorboard', 'trackio')],"
    code += "[name for name in sys.modules if name.startswith('dreamfw_trackers')])"
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": "", "DFW_TRACKERS": ""})
    libraries, ours = said.stdout.strip().splitlines()[-1].split("] [")
    assert libraries == "["
    assert "dreamfw_trackers.wandb" in ours  # they were loaded, and asked
    assert not [path for path in tmp_path.rglob("*") if path.name in ("wandb", "tensorboard", "trackio")]


@pytest.mark.parametrize(("tracker", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")])
def test_a_missing_library_is_told_once_and_the_other_tracker_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tracker: str, module: str
) -> None:
    monkeypatch.setenv("DFW_TRACKERS", "tensorboard, wandb")
    monkeypatch.setitem(sys.modules, module, None)
    with caplog.at_level(logging.WARNING, "dfw"):
        made = tracked.run_once(tmp_path)
    (told,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"pip install {tracker}" in told
    assert "dreamfw-trackers 0.1.0" in told
    assert "the run goes on" in told
    other = {"tensorboard": "wandb/offline-run-*/*.wandb", "wandb": "tensorboard/events*"}[tracker]
    assert len(list(made.glob(other))) == 1


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb"])
def test_a_tracker_that_fails_is_told_once_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tracker: str
) -> None:
    monkeypatch.setenv("DFW_TRACKERS", tracker)
    monkeypatch.setenv("MEDDLER_SPOILS", tracker)
    with caplog.at_level(logging.WARNING, "dfw"):
        tracked.run_once(tmp_path, "--plugin", tracked.MEDDLER)
    (told,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"dreamfw-trackers/{tracker}" in told
    assert "switched off, the run goes on" in told


def test_an_unknown_tracker_is_told_once_with_the_known_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DFW_TRACKERS", "tensorbord")
    with caplog.at_level(logging.WARNING, "dfw"):
        tracked.run_once(tmp_path)
    assert [record.getMessage() for record in caplog.records] == [
        "DFW_TRACKERS: no tracker named 'tensorbord'; known: tensorboard, trackio, wandb"
    ]
