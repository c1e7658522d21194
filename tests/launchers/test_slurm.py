"""Runs as tasks of Slurm: with submitit's processes in place of a cluster, with programs that answer as Slurm's, and for real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from small_runs import PIXELS

import dfw
from dfw import ConfigError, RunOutcome, Sweep
from dfw.runs.drive import MEASURED
from dfw.runs.pretended import MADE, Pretended, pretended
from dfw.studies.axes import axis
from dfw.studies.plan import Planned, planned, write_plan
from dfw.studies.worker import Maker

submitit = pytest.importorskip("submitit", reason="submitit is not installed")
from dfw_launchers import slurm  # noqa: E402
from dfw_launchers.slurm import Slurm, Task, outcomes_of  # noqa: E402

PREEMPTS = """
import os, signal
from pathlib import Path
from dfw import hookimpl

@hookimpl
def dfw_step_ended(step):
    mark = Path({mark!r})
    if step.progress.step == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGUSR2)
"""


class Processes(Slurm):
    """submitit's processes of this machine in place of Slurm's tasks: they get signals and are queued again as those are."""

    jobs: list[Any]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.jobs = []

    def _require_cluster(self) -> None: ...

    def _executor(self, folder: Path) -> Any:
        executor = submitit.LocalExecutor(folder)
        executor.update_parameters(timeout_min=5)

        def map_array(function: Any, works: Any) -> Any:
            self.jobs += executor.map_array(function, works)
            return self.jobs[-len(works) :]

        return SimpleNamespace(map_array=map_array)

    def _queue(self) -> frozenset[str]:
        return frozenset(job.job_id for job in self.jobs if not job.done())

    def _longest(self) -> int:
        return 1001


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm, "LOOK", 0.1)


def sweep_of(
    folder: Path, runs: list[str], make: Callable[[str], RunOutcome], stop: int | None = None
) -> tuple[Sweep, list[str]]:
    said: list[str] = []
    return Sweep(folder, runs, make, lambda: stop, said.append), said


def of_pixels(folder: Path, *words: str) -> Planned:
    Path("tiny.yaml").write_text(yaml.safe_dump(PIXELS), encoding="utf-8")
    (run,) = planned(["tiny.yaml"], [axis(word) for word in words])
    write_plan(folder, [run])
    return run


def numbers(run: Path) -> list[dict[str, object]]:
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in dfw.open(run).metrics]


def test_a_task_that_is_told_of_its_end_is_queued_again_and_its_run_has_the_bits_it_has_alone(tmp_path: Path) -> None:
    run = of_pixels(tmp_path / "s", "seed=3")
    Path("preempts.py").write_text(PREEMPTS.format(mark=str(tmp_path / "mark")))
    sweep, _ = sweep_of(tmp_path / "s", [run.name], Maker(tmp_path / "s", plugin_files=(tmp_path / "preempts.py",)))
    (outcome,) = Processes(Slurm.Config()).outcomes(sweep)
    assert (outcome.run, outcome.status) == (run.name, "finished")
    assert (tmp_path / "mark").exists()
    made = dfw.open(tmp_path / "s" / run.name)
    assert [one["step"] for one in made.manifest["resumed"]] == [4]
    assert numbers(made.directory) == numbers(dfw.run("tiny.yaml", *run.overrides, listeners=[]).directory)


def test_a_process_that_dies_costs_its_run_and_none_of_those_behind_it(tmp_path: Path) -> None:
    names = ["finished-1", "killed-2", "diverged-3"]
    sweep, said = sweep_of(tmp_path, names, Pretended(tmp_path))
    outcomes = list(Processes(Slurm.Config(runs_per_task=3)).outcomes(sweep))
    assert [outcome.status for outcome in outcomes] == ["finished", "killed", "diverged"]
    assert outcomes[2] == pretended("diverged-3")
    assert "its log is" in outcomes[1].diagnosis
    assert [name for name, _ in Pretended(tmp_path).made()] == names
    assert said[0].startswith("1 task stands in Slurm's queue (job ")


def test_what_is_cancelled_before_it_begins_is_not_submitted_again(tmp_path: Path) -> None:
    """`scancel` of tasks that wait: the queue no longer has them, and they have noted nothing."""

    class Cancelled(Processes):
        submitted = 0

        def _executor(self, folder: Path) -> Any:
            def map_array(function: Any, works: Any) -> Any:
                self.submitted += len(works)
                return [SimpleNamespace(job_id=f"{self.submitted}_{number}") for number in range(len(works))]

            return SimpleNamespace(map_array=map_array)

    launcher = Cancelled(Slurm.Config(runs_per_task=2))
    sweep, _ = sweep_of(tmp_path, ["finished-1", "finished-2", "finished-3"], Pretended(tmp_path))
    outcomes = list(launcher.outcomes(sweep))
    assert launcher.submitted == 2
    assert [(outcome.run, outcome.status) for outcome in outcomes] == [("finished-1", "killed"), ("finished-3", "killed")]


def test_a_task_that_is_queued_again_and_then_dies_is_no_interruption(tmp_path: Path) -> None:
    """What its first process has said of a signal does not hold for the second."""
    task = Task("7", ["one", "two"], tmp_path)
    notes = [("one", "running"), ("one", "finished"), ("two", "running"), ("two", "interrupted"), ("two", "running")]
    file = outcomes_of(tmp_path, "7")
    for count, (left, ended) in {3: (["two"], "killed"), 4: (["two"], "interrupted"), 5: (["two"], "killed")}.items():
        file.write_text("".join(json.dumps({"run": run, "status": status}) + "\n" for run, status in notes[:count]))
        assert [outcome.run for outcome in task.news()] == (["one"] if count == 3 else [])
        assert (task.left, task.end("why").status) == (left, ended)


def test_half_a_line_of_a_node_that_died_is_no_outcome(tmp_path: Path) -> None:
    """What the next process notes is read all the same."""
    file = outcomes_of(tmp_path, "7")
    file.write_text('{"run": "one", "sta')
    slurm._write(file, RunOutcome("two", "finished"))
    task = Task("7", ["one", "two"], tmp_path)
    assert [outcome.run for outcome in task.news()] == ["two"]
    assert task.left == slurm._unanswered(file, ["one", "two"]) == ["one"]


def test_jobs_go_on_without_the_process_that_waits_and_another_waits_for_them(tmp_path: Path) -> None:
    """The run waits until its notes find a reader."""
    os.mkfifo(tmp_path / MADE)
    first = Processes(Slurm.Config())
    sweep, said = sweep_of(tmp_path, ["finished-1"], Pretended(tmp_path), stop=signal.SIGINT)
    assert list(first.outcomes(sweep)) == []
    assert "and will go on; dfw sweep --resume" in said[-1]
    assert f"scancel {first.jobs[0].job_id} ends the jobs" in said[-1]
    second = Processes(Slurm.Config())
    second.jobs = first.jobs
    sweep, _ = sweep_of(tmp_path, ["finished-1"], Pretended(tmp_path))
    reader = os.open(tmp_path / MADE, os.O_RDONLY | os.O_NONBLOCK)
    assert list(second.outcomes(sweep)) == [pretended("finished-1")]
    assert len(second.jobs) == 1
    assert os.read(reader, 1000).count(b"finished-1") == 1
    os.close(reader)


# -- with programs that answer as Slurm's ------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with programs that stand first on the PATH: sbatch keeps its script, and nothing is in the queue."""
    folder = tmp_path / "programs"
    folder.mkdir()
    answers = {
        "sbatch": f'cp "$1" {tmp_path}/script; echo Submitted batch job 7',
        "squeue": "exit 1",
        "scontrol": "echo MaxArraySize = 5",
        "srun": "",
    }
    for name, text in answers.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_the_options_reach_sbatch(programs: Path, tmp_path: Path) -> None:
    config = Slurm.Config(
        partition="gpu",
        time="4:00:00",
        gpus=2,
        cpus=8,
        memory="32G",
        at_once=3,
        notice=60,
        setup=("module load x",),
        more={"qos": "low"},
    )
    launcher = Slurm(config)
    launcher._submit(tmp_path / "s", [f"finished-{number}" for number in range(4)], Pretended(tmp_path))
    script = (tmp_path / "script").read_text().splitlines()
    asked = {line.removeprefix("#SBATCH --") for line in script if line.startswith("#SBATCH")}
    assert asked >= {"partition=gpu", "time=4:00:00", "gpus-per-node=2", "cpus-per-task=8", "mem=32G", "array=0-3%3"}
    assert asked >= {"signal=USR2@60", "qos=low", "requeue", "open-mode=append"}
    assert "module load x" in script


def test_an_array_is_not_longer_than_slurm_allows_and_holds_every_run_once(programs: Path, tmp_path: Path) -> None:
    runs = [f"finished-{number}" for number in range(23)]
    tasks = Slurm(Slurm.Config(gpus=0))._submit(tmp_path / "s", runs, Pretended(tmp_path))
    assert [len(task.runs) for task in tasks.values()] == [5, 5, 5, 5, 3]
    assert [run for task in tasks.values() for run in task.runs] == runs
    assert list(tasks) == [f"7_{number}" for number in range(5)]
    script = (tmp_path / "script").read_text()
    assert "gpus-per-node" not in script
    assert "--time" not in script


def test_a_queue_that_does_not_answer_ends_no_task(programs: Path, tmp_path: Path) -> None:
    launcher = Slurm(Slurm.Config())
    tasks = launcher._submit(tmp_path / "s", ["finished-1", "finished-2"], Pretended(tmp_path))

    def gone_after(looks: int) -> set[str]:
        for _ in range(looks):
            time.sleep(0.11)
            found = launcher._gone(tasks)
        return found

    assert gone_after(3) == set()
    (programs / "squeue").write_text("#!/bin/sh\necho 7_1\n")
    assert gone_after(1) == set()  # it may just be on its way from one state to another
    assert gone_after(1) == {"7_0"}


def test_what_sbatch_refuses_is_one_sentence(programs: Path, tmp_path: Path) -> None:
    (programs / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2; exit 1\n")
    with pytest.raises(ConfigError, match=r"slurm takes no job: .*invalid partition"):
        Slurm(Slurm.Config())._submit(tmp_path / "s", ["finished-1"], Pretended(tmp_path))


def test_a_machine_without_slurm_is_said_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="there is no sbatch on this machine"):
        Slurm(Slurm.Config())


# -- for real ----------------------------------------------------------------------------------------------------------


def answers() -> bool:
    try:
        return subprocess.run(["sinfo"], capture_output=True, check=False, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.mark.slow
@pytest.mark.skipif(not answers(), reason="no Slurm answers on this machine")
def test_a_job_that_slurm_queues_again_in_the_middle_has_the_bits_it_has_alone(tmp_path: Path) -> None:
    run = of_pixels(tmp_path / "s", "seed=3", "trainer.steps=3000", "trainer.checkpoint_every=1000")
    command = [sys.executable, "-m", "dfw", "sweep", "--resume", "s", "--on", "slurm:gpus=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        rows = tmp_path / "s" / run.name / "metrics.jsonl"
        while not rows.exists() or rows.read_bytes().count(b"\n") < 100:
            assert waiting.poll() is None
            time.sleep(0.2)
        (script,) = (tmp_path / "s" / "slurm").glob("*_submission.sh")
        job = script.name.partition("_")[0]
        subprocess.run(["scontrol", "requeue", job], check=True)
        while waiting.poll() is None:  # Slurm lets it wait for two minutes
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True, check=False)
            time.sleep(1.0)
        said, told = waiting.communicate()
    assert waiting.returncode == 0, told
    assert "[1/1] finished" in said
    made = dfw.open(tmp_path / "s" / run.name)
    assert len(made.manifest["resumed"]) == 1
    assert numbers(made.directory) == numbers(dfw.run("tiny.yaml", *run.overrides, listeners=[]).directory)
