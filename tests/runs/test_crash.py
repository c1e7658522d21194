"""Kills before chosen file operations of a run, a resume and an export; what is left can always be brought to the same bits."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
from ends import leftovers, newest_whole, outcome, whole
from processes import FIELD, PIXELS, points_of
from warm_processes import Dfw

from dfw.runs.life import status_of

CONFIG = PIXELS.replace("steps: 12", "steps: 4").replace("preview_every: 4", "preview_every: 2").replace("every: 3", "every: 2")
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Where the kills are, from the first file operation to the last."""


def only_run(folder: Path) -> Path | None:
    found = list((folder / "runs" / "crash").glob("*"))
    assert len(found) <= 1
    return found[0] if found else None


def point(folder: Path, share: float) -> str:
    """The file operation at that share of those that a process in `folder` did."""
    return str(1 + round(share * (points_of(folder / "runs") - 1)))


def do(folder: Path, *arguments: str, die_at: str = "0") -> Dfw:
    process = Dfw(folder, *arguments, DIE_AT=die_at)
    assert process.wait() == (-signal.SIGKILL if die_at != "0" else 0), process.said
    return process


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    run = only_run(to)
    assert run is not None
    return run


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run has finished that nobody killed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "c.yaml").write_text(CONFIG)
    do(folder, "run", "c.yaml")
    return folder


@pytest.fixture(scope="module")
def halfway(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with a run that was killed after its first checkpoint; and a copy, in which it was resumed."""
    folder = tmp_path_factory.mktemp("halfway")
    (folder / "c.yaml").write_text(CONFIG)
    do(folder, "run", "c.yaml", die_at=point(begun, 0.7))
    counted = tmp_path_factory.mktemp("counted") / "copy"
    run = copied(folder, counted)
    assert newest_whole(run) == 2
    do(counted, "run", "--resume", str(run))
    return folder, counted


def ends_as(begun: Path, folder: Path) -> None:
    """The killed run can be finished, to the bits of the one that nobody killed."""
    run, reference = only_run(folder), only_run(begun)
    assert run is not None
    assert reference is not None
    assert all(whole(path) for path in (run / "checkpoints").glob("step-*"))
    assert status_of(run) in ("killed", "finished")
    process = Dfw(folder, "run", "--resume", str(run))
    assert process.wait() == (2 if "finished its 4 steps" in process.said else 0), process.said
    assert outcome(run) == outcome(reference)
    assert leftovers(run) == []
    said = json.loads((run / "status.json").read_text())
    assert (said["status"], said["step"]) == ("finished", 4)
    assert all((run / path).stat().st_size for path in said["artifacts"].values())


@pytest.mark.parametrize("share", SHARES)
def test_a_run_that_is_killed(begun: Path, tmp_path: Path, share: float) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    do(tmp_path, "run", "c.yaml", die_at=point(begun, share))
    run = only_run(tmp_path)
    if run is not None and (run / "resolved.yaml").is_file():
        ends_as(begun, tmp_path)
    else:
        assert share < 0.4  # what has no resolved.yaml is not a run yet
        if run is not None:
            process = Dfw(tmp_path, "run", "--resume", str(run))
            assert (process.wait(), process.said.count("error: ")) == (2, 1), process.said


@pytest.mark.parametrize("share", SHARES)
def test_a_resume_that_is_killed(begun: Path, halfway: tuple[Path, Path], tmp_path: Path, share: float) -> None:
    killed, counted = halfway
    folder = tmp_path / "copy"
    run = copied(killed, folder)
    do(folder, "run", "--resume", str(run), die_at=point(counted, share))
    assert newest_whole(run) >= 2
    ends_as(begun, folder)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with a finished run of a small NeRF; and a copy, in which it was exported again."""
    folder = tmp_path_factory.mktemp("field")
    (folder / "c.yaml").write_text(FIELD.replace("steps: 12", "steps: 2"))
    do(folder, "run", "c.yaml")
    counted = tmp_path_factory.mktemp("counted") / "copy"
    do(counted, "export", str(copied(folder, counted)))
    return folder, counted


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_an_export_that_is_killed(exported: tuple[Path, Path], tmp_path: Path, share: float) -> None:
    finished, counted = exported
    folder = tmp_path / "copy"
    run = copied(finished, folder)
    held = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    do(folder, "export", str(run), die_at=point(counted, share))
    assert {path: path.read_bytes() for path in held} == held
    do(folder, "export", str(run))
    assert {path: path.read_bytes() for path in held} == held
    assert all(path.stat().st_size for path in run.rglob("*") if path.is_file())
