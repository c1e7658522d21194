"""Real processes: signals and kills in every part of a run, two at once, forks; and the run that can always be finished."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from small_runs import PIXELS, SCENE
from warm_processes import Dfw

import dfw
from dfw.runs import lock
from dfw.runs.checkpoint_folder import newest_checkpoint
from dfw.runs.directory import RunDirectory
from dfw.runs.drive import MEASURED
from dfw.runs.life import status_of

NUMBERS = {"INT": 130, "TERM": 143, "HUP": 129}
HELPER = dedent("""\
    import errno, fcntl, os, signal, sys, time
    from pathlib import Path
    from dfw import hookimpl

    def refuse(file, how):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def act():
        for name in os.environ["HOW"].split():
            if name == "NOLOCKS":
                fcntl.flock = refuse
            elif name == "FORK":
                if os.fork() == 0:
                    time.sleep(60)
            elif name == "WAIT":
                Path("waits").touch()
                while not Path("go").exists():
                    time.sleep(0.01)
            else:
                os.kill(os.getpid(), getattr(signal, "SIG" + name))

    @hookimpl
    def dfw_step_ended(step):
        if os.environ["WHEN"] == f"step {step.progress.step}":
            act()

    @hookimpl
    def dfw_phase_began(phase):
        if os.environ["WHEN"] == phase.doing:
            act()

    def opens(event, arguments):
        if event == "open" and not done and str(arguments[0]).endswith(os.environ["WHEN"].removeprefix("reads ")):
            done.append(event)
            act()

    done = []
    if os.environ["WHEN"] == "at once":
        act()
    elif os.environ["WHEN"].startswith("reads "):
        sys.addaudithook(opens)
    """)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(SCENE | {"name": "one"}))
    (tmp_path / "helper.py").write_text(HELPER)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "c.yaml").write_text(yaml.safe_dump(SCENE | {"name": "one"}))
    process = Dfw(folder, "run", "c.yaml")
    assert process.wait() == 0, process.said
    return only_run(folder)


def start(folder: Path, when: str, how: str, *arguments: str) -> Dfw:
    """A run in which `how` happens at the moment `when`: the end of a step, or the beginning of a phase."""
    return Dfw(folder, "run", *(arguments or ("c.yaml",)), "--plugin", "helper.py", WHEN=when, HOW=how)


def resume(folder: Path, *more: str) -> Dfw:
    return Dfw(folder, "run", "--resume", str(only_run(folder)), *more)


def only_run(folder: Path) -> Path:
    (found,) = (folder / "runs" / "one").iterdir()
    return found


def said(run: Path) -> dict:
    return json.loads((run / "status.json").read_text())


def wait_for(path: Path, process: Dfw) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, process.said
        time.sleep(0.01)


def outcome(run: Path) -> dict:
    rows = [{k: v for k, v in row.items() if k not in MEASURED} for row in RunDirectory.open(run).read_metrics()]
    tensors = load_file(newest_checkpoint(run / "checkpoints") / "geometry.safetensors")
    return {"rows": rows, "tensors": {name: value.tolist() for name, value in tensors.items()}}


def finishes(folder: Path, whole: Path) -> None:
    """The run can be finished, is complete then, has the bits of one that was never stopped, and says so."""
    process = resume(folder)
    assert process.wait() == 0, process.said
    run = only_run(folder)
    status = said(run)
    assert (status["status"], status["step"], status["diagnosis"]) == ("finished", 4, "")
    assert {"turntable", "ply", "report"} <= set(status["artifacts"])
    assert all((run / path).stat().st_size for path in status["artifacts"].values())
    assert "finished" in (run / "report.html").read_text()
    assert sum(status["times"].values()) == pytest.approx(status["seconds"], abs=0.1)
    assert not [path for path in run.rglob(".*") if path.name != ".gitignore"]
    assert outcome(run) == outcome(whole)


def slow(*values: str) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "when"),
    [
        ("TERM", "step 1"),
        slow("HUP", "writing the mesh"),
        *(slow("TERM", f"writing the {output}") for output in ("turntable", "texture", "report")),
        slow("INT", "step 1"),
    ],
)
def test_a_signal_ends_a_run_so_that_it_can_be_finished(folder: Path, name: str, when: str, whole: Path) -> None:
    process = start(folder, when, name)
    assert process.wait() == NUMBERS[name], process.said
    run = only_run(folder)
    status = said(run)
    assert (status["status"], status["step"]) == ("interrupted", 2 if when == "step 1" else 4)
    assert newest_checkpoint(run / "checkpoints").name == f"step-{status['step']:06d}"
    assert f"to continue: dfw run --resume {run.relative_to(folder)}\n" in process.said
    assert "Traceback" not in process.said
    finishes(folder, whole)


def test_a_finished_run_does_not_go_on(whole: Path) -> None:
    before = said(whole)
    process = Dfw(whole.parent, "run", "--resume", str(whole))
    assert process.wait() == 2
    assert "already finished its 4 steps" in process.said
    (whole.parents[2] / "helper.py").write_text(HELPER)
    process = start(whole.parents[2], "reads state.json", "HUP", "--resume", str(whole), "trainer.steps=6")
    assert process.wait() == 129, process.said  # stopped before it had loaded what it should make longer
    assert said(whole) == before


@pytest.mark.parametrize("file", ["manifest.json", "state.json"])
def test_a_resume_that_is_stopped_while_it_loads_says_how_to_go_on(folder: Path, whole: Path, file: str) -> None:
    assert start(folder, "step 2", "KILL", "c.yaml", "trainer.checkpoint_every=2").wait() == -signal.SIGKILL
    run = only_run(folder)
    process = start(folder, f"reads {file}", "HUP", "--resume", str(run))
    assert process.wait() == 129, process.said
    assert f"to continue: dfw run --resume {run}\n" in process.said
    assert status_of(run) == "killed"  # as it was: that process has changed nothing
    finishes(folder, whole)


def test_where_files_cannot_be_locked_a_run_goes_on_after_one_warning(folder: Path) -> None:
    stages = {"name": "one", "stages": {"first": PIXELS, "second": {"extends": "first"}}}
    (folder / "c.yaml").write_text(yaml.safe_dump(stages))
    process = start(folder, "at once", "NOLOCKS")
    assert process.wait() == 0, process.said
    assert process.said.count("runs cannot be locked here (") == 1
    assert said(only_run(folder))["status"] == "finished"


@pytest.mark.parametrize("when", ["step 1", slow("writing the mesh")])
def test_a_second_signal_stops_at_once_and_the_status_is_right(folder: Path, when: str, whole: Path) -> None:
    process = start(folder, when, "TERM TERM")
    assert process.wait() == 143, process.said
    assert said(only_run(folder))["status"] == "interrupted"
    finishes(folder, whole)


@pytest.mark.parametrize("when", [slow("step 0"), "writing the texture"])
def test_a_killed_run_says_so_to_whoever_asks_and_can_be_finished(folder: Path, when: str, whole: Path) -> None:
    assert start(folder, when, "KILL").wait() == -signal.SIGKILL
    run = only_run(folder)
    assert said(run)["status"] == "running"
    assert dfw.open(run).status == status_of(run) == "killed"
    finishes(folder, whole)


def test_a_released_lock_is_forgotten(tmp_path: Path) -> None:
    """Not by a weak reference: Ctrl-C in the callback of one is a traceback that nobody can catch."""
    held = lock.RunLock(tmp_path)
    held.take()
    assert held in lock._held
    held.release()
    assert held not in lock._held


def test_one_process_holds_a_run_and_others_may_look(folder: Path) -> None:
    process = start(folder, "step 1", "WAIT", "c.yaml", "trainer.checkpoint_every=1")
    wait_for(folder / "waits", process)
    run = only_run(folder)
    assert (status_of(run), said(run)["pid"]) == ("running", process.pid)
    second = resume(folder)
    assert second.wait() == 2
    assert f"is being continued by process {process.pid} on host {os.uname().nodename} since " in second.said
    assert Dfw(folder, "render", str(run), "--frames", "1", "--width", "16").wait() == 0
    (folder / "go").touch()
    assert process.wait() == 0, process.said


@pytest.mark.slow
def test_a_child_that_lives_on_does_not_hold_the_run(folder: Path, whole: Path) -> None:
    assert start(folder, "step 1", "FORK KILL").wait() == -signal.SIGKILL
    assert status_of(only_run(folder)) == "killed"
    finishes(folder, whole)


@pytest.mark.slow
def test_what_is_ignored_stays_ignored(folder: Path) -> None:
    """As `nohup` does it."""
    process = Dfw(folder, "run", "c.yaml", "--plugin", "helper.py", WHEN="step 1", HOW="HUP", IGNORED="SIGHUP")
    assert process.wait() == 0, process.said
    assert said(only_run(folder))["status"] == "finished"


@pytest.mark.slow
def test_a_failure_that_is_a_crash_has_a_diagnosis(folder: Path, whole: Path) -> None:
    process = start(folder, "step 1", "WAIT", "c.yaml")
    wait_for(folder / "waits", process)
    run = only_run(folder)
    (run / "export").rmdir()
    (run / "export").write_text("in the way")
    (folder / "go").touch()
    assert process.wait() != 0
    status = said(run)
    assert (status["status"], bool(status["diagnosis"])) == ("failed", True)
    (run / "export").unlink()
    finishes(folder, whole)
