"""Sweeps, whole: runs with the bits that they have alone, whatever happens to the processes that make them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command_line import fresh_plugins, run_dfw
from PIL import Image
from small_runs import PIXELS

import dfw
from dfw.runs.drive import MEASURED
from dfw.runs.life import status_of
from dfw.studies.axes import axis
from dfw.studies.plan import CLAIMS, Planned, planned, read_plan, write_plan
from dfw.studies.states import claim, directory_of, state
from dfw.studies.worker import make

PLUGIN = """
import os, signal
from pathlib import Path
from dfw import hookimpl

seeds = []

@hookimpl
def dfw_run_started(run):
    seeds.append(run.config.seed)

@hookimpl
def dfw_step_ended(step):
    mark = Path(os.environ["MARK"])
    if step.progress.step == 3 and seeds[-1] == 1 and not mark.exists():
        mark.touch()
        self, parent = os.getpid(), os.getppid()
        trouble = {"KILL": (self, signal.SIGKILL), "STOP": (self, signal.SIGTERM), "TERM": (parent, signal.SIGTERM)}
        os.kill(*trouble[os.environ["TROUBLE"]])
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fresh_plugins()
    Path("tiny.yaml").write_text(yaml.safe_dump(PIXELS), encoding="utf-8")


def numbers(run: Path) -> list[dict[str, object]]:
    """What a run has computed: its metrics without what the machine decides."""
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in dfw.open(run).metrics]


def alone(*overrides: str) -> list[dict[str, object]]:
    """The numbers of the same run, made by itself."""
    return numbers(dfw.run("tiny.yaml", *overrides, listeners=[]).directory)


def dfw_sweep(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    surroundings = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, "-m", "dfw", "sweep", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=surroundings, timeout=400)


def test_two_workers_make_every_run_with_the_bits_it_has_alone(tmp_path: Path) -> None:
    done = dfw_sweep("tiny.yaml", "prompt=a red square,a blue square", "seed=0..1", "--out", "s", "--on", "local:processes=2")
    assert done.returncode == 0, done.stderr
    assert "4 runs in s: 4 pending" in done.stdout
    assert done.stdout.rstrip().endswith("4 finished")
    runs = read_plan(Path("s"))
    assert [directory_of(Path("s"), run) for run in runs] == [Path("s") / run.name for run in runs]
    for run in runs:
        assert numbers(Path("s") / run.name) == alone(*run.overrides), run.name
    told = (Path("s") / runs[0].name / "manifest.json").read_text()
    assert json.loads(told)["command"] == runs[0].command


def test_what_is_finished_is_skipped_and_a_sweep_can_be_extended(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("s")
    write_plan(folder, planned(["tiny.yaml"], [axis("seed=0..1")]))
    for run in read_plan(folder):
        assert make(folder, run).status == "finished"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    code, said, _ = run_dfw("sweep", "--resume", "s", capsys=capsys)
    assert (code, said) == (0, "2 runs in s: 2 finished\n2 finished\n")
    code, said, _ = run_dfw("sweep", "tiny.yaml", "seed=1..2", "--out", "s", "--dry-run", capsys=capsys)
    assert code == 0
    assert "3 runs in s: 2 finished, 1 pending\n  dfw run" in said
    assert said.count("dfw run") == 1
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_a_run_knows_its_sweep_also_when_it_is_continued_alone() -> None:
    folder, heard = Path("s"), []

    class Listener:
        @dfw.hookimpl
        def dfw_run_started(self, run: dfw.RunStarted) -> None:
            heard.append(run.sweep)

    (run,) = planned(["tiny.yaml"], [])
    assert make(folder, run).status == "finished"
    dfw.open(folder / run.name).resume("trainer.steps=8", listeners=[Listener()])
    dfw.run("tiny.yaml", listeners=[Listener()])
    assert heard == ["s", ""]


def test_every_mistake_of_the_whole_plan_is_said_before_anything_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = run_dfw(
        "sweep", "tiny.yaml", "prompt=a red square,a green square", "optimizer.lr=0.1,fast", "--out", "s", capsys=capsys
    )
    assert code == 2
    assert not Path("s").exists()
    assert "a green square" in said
    assert "optimizer.lr" in said
    assert "fast" in said
    assert "(2 runs)" in said


def test_a_file_that_many_runs_name_is_looked_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dfw_guidance.gaussian import Gaussian

    looked: list[object] = []
    look = Gaussian.Config.check_files
    monkeypatch.setattr(Gaussian.Config, "check_files", lambda config: (looked.append(config), look(config)))
    Image.new("RGB", (16, 16)).save("square.png")
    sweep = ("sweep", "tiny.yaml", 'guidance.means={"a red square": square.png}', "trainer.steps=6..9", "guidance.std=0.1,0.2")
    assert run_dfw(*sweep, "--dry-run", capsys=capsys)[0] == 0
    assert len(looked) == 2
    Path("square.png").write_text("no picture")
    code, _, said = run_dfw(*sweep, "--dry-run", capsys=capsys)
    assert (code, len(looked), said.count("(8 runs)")) == (3, 4, 1)


def test_a_source_that_many_runs_start_from_is_read_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dfw.runs import start

    dfw.run("tiny.yaml", "trainer.steps=1", "output=made", listeners=[])
    (source,) = Path("made").glob("*/*")
    read: list[Path] = []
    opened = start.open_source
    monkeypatch.setattr(start, "open_source", lambda run: (read.append(run), opened(run))[1])
    sweep = ("sweep", "tiny.yaml", "trainer.steps=6..9", f"start.run={source}", "--dry-run")
    assert run_dfw(*sweep, capsys=capsys)[0] == 0
    assert read == [source.resolve()]


def test_a_run_that_fails_stops_no_other_and_is_tried_again_only_on_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, axes = Path("s"), [axis("seed=0..1"), axis("losses.sds.weight=1,1e38")]
    write_plan(folder, planned(["tiny.yaml"], axes))
    outcomes = [make(folder, run) for run in read_plan(folder)]
    assert [one.status for one in outcomes] == ["finished", "diverged", "finished", "diverged"]
    assert all(one.diagnosis for one in outcomes if one.status == "diverged")
    code, said, _ = run_dfw("sweep", "--resume", "s", capsys=capsys)
    assert code == 1
    assert "2 finished, 2 diverged" in said
    assert said.count(outcomes[1].diagnosis[:40]) == 2
    assert "to try what failed again: dfw sweep --resume s --retry" in said
    code, said, _ = run_dfw("sweep", "--resume", "s", "--retry", "--dry-run", capsys=capsys)
    assert code == 0
    assert said.count("  dfw run") == 2


def test_a_run_that_cannot_begin_says_why_and_has_no_directory(tmp_path: Path) -> None:
    folder = Path("s")
    (run,) = planned(["tiny.yaml"], [axis("start.run=nowhere")])
    write_plan(folder, [run])
    outcome = make(folder, run)
    assert outcome.status == "failed"
    assert "nowhere" in outcome.diagnosis
    assert state(folder, run) == "failed"
    assert directory_of(folder, run) is None
    (run,) = planned(["tiny.yaml"], [])
    write_plan(folder, [run])
    (folder / run.name).mkdir()  # as a kill leaves it between the folder and its first file
    assert state(folder, run) == "pending"
    assert make(folder, run).status == "finished"
    assert directory_of(folder, run) == folder / f"{run.name}-2"
    assert state(folder, run) == "finished"


def test_a_run_that_somebody_works_on_is_left_alone() -> None:
    folder = Path("s")
    (run,) = planned(["tiny.yaml"], [])
    write_plan(folder, [run])
    script = (
        "import sys; from pathlib import Path; from dfw.studies.plan import read_plan; from dfw.studies.states import claim\n"
        "lock = claim(Path('s'), read_plan(Path('s'))[0]); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert state(folder, run) == "running"
        outcome = make(folder, run)
        assert outcome.status == "taken"
        assert str(other.pid) in outcome.diagnosis
        assert directory_of(folder, run) is None
        other.communicate("")
    assert state(folder, run) == "pending"
    assert (folder / CLAIMS / run.name).is_dir()
    claim(folder, run).release()


def test_a_worker_that_is_killed_is_replaced_and_its_run_goes_on_later(tmp_path: Path) -> None:
    Path("trouble.py").write_text(PLUGIN)
    told = {"TROUBLE": "KILL", "MARK": str(tmp_path / "mark")}
    sweep = ("trainer.checkpoint_every=2", "seed=0..2", "--plugin", "trouble.py")
    done = dfw_sweep("tiny.yaml", *sweep, "--out", "s", **told)
    assert done.returncode == 1
    assert "its process ended with signal 9" in done.stdout
    assert "2 finished, 1 killed" in done.stdout
    assert "to go on: dfw sweep --resume s" in done.stdout
    done = dfw_sweep("--resume", "s", "--plugin", "trouble.py", **told)
    assert done.returncode == 0
    assert "3 finished" in done.stdout
    for run in read_plan(Path("s")):
        assert numbers(Path("s") / run.name) == alone(*run.overrides)


def test_a_worker_that_is_stopped_takes_no_run_with_it(tmp_path: Path) -> None:
    Path("trouble.py").write_text(PLUGIN)
    told = {"TROUBLE": "STOP", "MARK": str(tmp_path / "mark")}
    done = dfw_sweep("tiny.yaml", "trainer.steps=400", "seed=1..2", "--plugin", "trouble.py", "--out", "s", **told)
    assert re.search(r"interrupted after .*tiny-1-", done.stdout), done.stderr
    assert re.search(r"finished after .*tiny-2-", done.stdout)


def test_what_another_process_has_ended_meanwhile_stays_as_it_is() -> None:
    folder = Path("s")
    good, bad = planned(["tiny.yaml"], [axis("losses.sds.weight=1,1e38")])
    ended = {good: make(folder, good), bad: make(folder, bad)}
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "run.lock"}
    for run, outcome in ended.items():
        again = make(folder, run)
        assert (again.status, again.diagnosis) == (outcome.status, outcome.diagnosis)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "run.lock"} == before
    assert make(folder, bad, retry=True).status == "diverged"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "run.lock"} != before


def test_a_sweep_that_cannot_be_written_is_one_sentence() -> None:
    Path("s").touch()
    (run,) = planned(["tiny.yaml"], [])
    outcome = make(Path("s"), run)
    assert outcome.status == "failed"
    assert outcome.diagnosis.endswith("Not a directory; only who may write a sweep may go on with it")


def test_a_signal_lets_every_run_write_its_checkpoint(tmp_path: Path) -> None:
    Path("trouble.py").write_text(PLUGIN)
    told = {"TROUBLE": "TERM", "MARK": str(tmp_path / "mark")}
    done = dfw_sweep("tiny.yaml", "trainer.steps=400", "seed=0..3", "--plugin", "trouble.py", "--out", "s", **told)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert re.search(r"interrupted after .*tiny-1-", done.stdout)
    assert "to go on: dfw sweep --resume s" in done.stdout
    runs = read_plan(Path("s"))
    assert [state(Path("s"), run) for run in runs] == ["finished", "interrupted", "pending", "pending"]
    made = make(Path("s"), runs[1])
    assert made.status == "finished"
    assert numbers(Path("s") / runs[1].name) == alone(*runs[1].overrides)


def test_two_processes_share_a_sweep_and_no_run_is_made_twice() -> None:
    write_plan(Path("s"), planned(["tiny.yaml"], [axis("seed=0..5")]))
    command = [sys.executable, "-m", "dfw", "sweep", "--resume", "s"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=120) for one in both]
    assert all(one.returncode == 0 for one in both), said
    found = sorted(path.name for path in Path("s").iterdir() if path.is_dir() and path.name != CLAIMS)
    assert found == sorted(run.name for run in read_plan(Path("s")))
    assert all(status_of(Path("s") / name) == "finished" for name in found)


def test_relative_paths_mean_the_folder_of_the_plan_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`start.run=old` was written where `old` is. From elsewhere it is the same run, also where another has that name."""
    first = dfw.run("tiny.yaml", "seed=7", listeners=[], output=str(tmp_path / "made")).directory
    other = dfw.run("tiny.yaml", "seed=8", listeners=[], output=str(tmp_path / "made")).directory
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "here" / "old").symlink_to(first)
    (tmp_path / "there" / "old").symlink_to(other)
    monkeypatch.chdir(tmp_path / "here")
    (run,) = planned([str(tmp_path / "tiny.yaml")], [axis("start.run=old")])
    write_plan(tmp_path / "s", [run])
    monkeypatch.chdir(tmp_path / "there")
    (run,) = read_plan(tmp_path / "s")
    assert make(tmp_path / "s", run).status == "finished"
    start = dfw.open(tmp_path / "s" / run.name).manifest["start"]
    assert str(first.name) in json.dumps(start) or "here" in json.dumps(start)
    gone = Planned(run.name + "x", run.config, run.overrides, str(tmp_path / "gone"))
    outcome = make(tmp_path / "s", gone)
    assert outcome.status == "failed"
    assert "old" in outcome.diagnosis
