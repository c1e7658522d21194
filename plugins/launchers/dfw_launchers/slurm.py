"""Runs of a sweep as tasks of a Slurm job array, submitted by submitit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt, PositiveInt

from dfw import ComponentConfig, ConfigError, Launcher, RunOutcome, Sweep

FOLDER = "slurm"
"""Folder of the sweep with what submitit writes: scripts, logs, and a file of outcomes for each task."""


class Slurm(Launcher):
    """Tasks of one Slurm job array. Submit them where `sbatch` works; the sweep's folder must be visible on every node.

    Before its time limit, and when Slurm preempts or requeues it, a task writes a checkpoint. The same task then goes on with the
    run later, to the same bits. Ctrl-C ends the process that waits, and the jobs go on. The time limit must be longer than it
    takes to load the model. Runs have the same bits as elsewhere if `OMP_NUM_THREADS` is the same; tasks inherit it.
    """

    class Config(ComponentConfig):
        """What is asked of Slurm for each task."""

        partition: str | None = None
        """Which nodes. Without it Slurm takes its default."""
        time: PositiveInt | str | None = None
        """Time limit of a task, in minutes or as `D-HH:MM:SS`. A task that needs longer goes on in another one."""
        gpus: NonNegativeInt = 1
        """GPUs of a task. 0 for a cluster without any."""
        cpus: PositiveInt | None = None
        """Processor cores of a task."""
        memory: str | None = None
        """Main memory of a task, such as `32G`."""
        at_once: PositiveInt | None = None
        """The most tasks that work at a time."""
        runs_per_task: PositiveInt = 1
        """Runs that a task makes one after the other. It rises where the array would be longer than Slurm allows."""
        notice: PositiveInt = 120
        """Seconds before the time limit at which a task writes its checkpoint."""
        setup: tuple[str, ...] = ()
        """Lines of shell that come first on the node, such as `module load cuda`."""
        more: dict[str, str | int | bool] = {}  # noqa: RUF012
        """Other options of sbatch by name, such as `account` or `qos`."""

    config: Slurm.Config

    def __init__(self, config: Slurm.Config) -> None:
        self.config = config
        if find_spec("submitit") is None:
            raise ConfigError("slurm needs the package submitit; pip install 'dreamfw[slurm]'")
        self._require_cluster()

    def outcomes(self, sweep: Sweep) -> Generator[RunOutcome, None, None]:
        """Submits the runs that no task of this sweep in Slurm's queue has, and waits for all."""
        if not sweep.runs:
            return
        folder = sweep.folder / FOLDER
        tasks = self._standing(folder, sweep.runs)
        known = {run for task in tasks.values() for run in task.runs}
        tasks |= self._submit(folder, [run for run in sweep.runs if run not in known], sweep.make)
        sweep.say(f"{self._named(tasks)}; logs are in {folder}")
        while tasks:
            if sweep.stopped() is not None:
                sweep.say(
                    f"{self._named(tasks)} and will go on; dfw sweep --resume {sweep.folder} --dry-run shows how runs stand, and "
                    f"scancel {' '.join(sorted({name.partition('_')[0] for name in tasks}))} ends the jobs"
                )
                return
            gone = self._gone(tasks)
            for name, task in list(tasks.items()):
                yield from task.news()
                if task.left and name in gone:
                    rest = task.left[1:] if task.begun and task.died else []
                    yield task.end(f"Slurm's job {name} has ended; its log is {folder / name}_0_log.err")
                    tasks |= self._submit(folder, rest, sweep.make)
                if not task.left or name in gone:
                    del tasks[name]
            time.sleep(0.5 if len(tasks) < 100 else 5.0)

    def _named(self, tasks: Mapping[str, Task]) -> str:
        jobs = sorted({name.partition("_")[0] for name in tasks})
        count = f"{len(tasks)} {'task stands' if len(tasks) == 1 else 'tasks stand'}"
        return f"{count} in Slurm's queue (job {', '.join(jobs)})" if jobs else "nothing stands in Slurm's queue"

    # -- what a test without Slurm replaces ----------------------------------------------------------------------------

    def _require_cluster(self) -> None:
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise ConfigError("slurm: there is no sbatch on this machine; start the sweep where jobs are submitted")

    def _executor(self, folder: Path) -> Any:
        """submitit's executor, with what the options ask for."""
        import submitit

        executor = submitit.SlurmExecutor(folder)
        one = self.config
        asked: dict[str, Any] = {"partition": one.partition, "cpus_per_task": one.cpus, "gpus_per_node": one.gpus or None}
        asked |= {"time": None}  # submitit's own default is five minutes
        asked |= {"setup": list(one.setup) or None, "array_parallelism": one.at_once or 10**6, "signal_delay_s": one.notice}
        more: dict[str, Any] = {"time": one.time, "mem": one.memory, "requeue": True} | one.more
        more = {name: value for name, value in more.items() if value is not None}
        executor.update_parameters(job_name="dfw-sweep", additional_parameters=more, **asked)
        return executor

    def _queue(self) -> frozenset[str] | None:
        """Returns the tasks of this user that wait or work. None where Slurm does not answer."""
        done = subprocess.run(
            ["squeue", "--me", "--array", "--noheader", "--format=%i"], capture_output=True, text=True, check=False
        )
        return frozenset(done.stdout.split()) if done.returncode == 0 else None

    def _longest(self) -> int:
        """Returns how many tasks an array may have."""
        done = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False)
        found = [line.partition("=")[2] for line in done.stdout.splitlines() if line.startswith("MaxArraySize")]
        return max(1, int(found[0])) if found else 1001  # Slurm's default

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _submit(self, folder: Path, runs: Sequence[str], make: Callable[[str], RunOutcome]) -> dict[str, Task]:
        if not runs:
            return {}
        each = max(self.config.runs_per_task, ceil(len(runs) / self._longest()))
        works = [Work(make, tuple(runs[first : first + each]), folder) for first in range(0, len(runs), each)]
        folder.mkdir(parents=True, exist_ok=True)
        try:
            jobs = self._executor(folder).map_array(_work, works)
        except (RuntimeError, OSError) as error:  # what sbatch says
            said = " ".join(str(error).split())
            raise ConfigError(f"slurm takes no job: {said}; gpus=0 asks for none") from error
        return {job.job_id: Task(job.job_id, work.runs, folder) for job, work in zip(jobs, works, strict=True)}

    def _standing(self, folder: Path, runs: Sequence[str]) -> dict[str, Task]:
        """Returns the tasks in the queue that an earlier process has submitted for some of `runs`."""
        import submitit

        found: dict[str, Task] = {}
        for name in sorted(self._queue() or ()) if folder.is_dir() else ():
            if (folder / f"{name}_submitted.pkl").is_file():
                work: Work = submitit.SlurmJob(folder, name).submission().args[0]
                task = Task(name, work.runs, folder)
                list(task.news())  # said before
                task.left = [run for run in task.left if run in runs]
                found |= {name: task} if task.left else {}
        return found

    def _gone(self, tasks: Mapping[str, Task]) -> set[str]:
        """Returns the tasks that two looks in a row, some seconds apart, have not found in the queue."""
        now = time.monotonic()
        if any(now - task.looked < LOOK for task in tasks.values()):
            return set()
        queue = self._queue()
        for name, task in tasks.items():
            task.looked = now
            task.missed = 0 if queue is None or name in queue else task.missed + 1
        return {name for name, task in tasks.items() if task.missed > 1}


STANDS = ("running", "interrupted")
"""What a task notes of a run that it has not ended."""
LOOK = 10.0
"""Seconds between two looks at the queue: Slurm asks programs to be patient."""


@dataclass
class Task:
    """A task of an array, as the process that waits for it sees it."""

    name: str
    """As Slurm calls it: `12_3`."""
    runs: Sequence[str]
    folder: Path
    left: list[str] = field(init=False)
    """Runs that have no outcome yet, in their order."""
    begun: bool = False
    """Whether its process has noted anything. One that has not was cancelled while it waited, or cannot work at all."""
    died: bool = True
    """Whether its process, if it is gone, ended without a word. One that a signal ended has said so."""
    looked: float = field(default_factory=time.monotonic)
    missed: int = 0

    def __post_init__(self) -> None:
        self.left = list(self.runs)
        self._read = 0

    def news(self) -> Generator[RunOutcome, None, None]:
        """Yields the outcomes that the task has written since the last call."""
        file = outcomes_of(self.folder, self.name)
        if not file.is_file():
            return
        with open(file, "rb") as opened:
            opened.seek(self._read)
            text = opened.read()
        whole = text[: text.rfind(b"\n") + 1]  # the last line may be half there
        self._read += len(whole)
        for one in _outcomes(whole):
            outcome = RunOutcome(**one)
            self.begun = True
            self.died = outcome.status != "interrupted"
            if outcome.status not in STANDS and outcome.run in self.left:
                self.left.remove(outcome.run)
                yield outcome

    def end(self, why: str) -> RunOutcome:
        """Returns the outcome of the run that the task was at when it ended for good."""
        return RunOutcome(self.left[0], "killed" if self.died else "interrupted", why if self.died else "")


def outcomes_of(folder: Path, task: str) -> Path:
    """Returns the file to which a task writes a line for each outcome."""
    return folder / f"{task}_outcomes.jsonl"


@dataclass(frozen=True)
class Work:
    """What a task is given. submitit pickles it."""

    make: Callable[[str], RunOutcome]
    runs: tuple[str, ...]
    folder: Path


def _work(work: Work) -> None:
    """Makes the runs of a task, on a node.

    SIGTERM comes when Slurm preempts, requeues or cancels the task: what then becomes of it is Slurm's business. SIGUSR2 comes
    before the time limit, and also before a preemption where Slurm is set so: the task asks to be queued again.
    """
    import submitit

    environment = submitit.JobEnvironment()
    file = outcomes_of(work.folder, environment.job_id)
    came: list[int] = []

    def note(number: int, _frame: object) -> None:
        came.append(number)
        if number == signal.SIGUSR2:
            os.kill(os.getpid(), signal.SIGTERM)  # a run ends with a checkpoint

    signal.signal(signal.SIGUSR2, note)
    signal.signal(signal.SIGTERM, note)  # between runs; a run has its own
    for run in _unanswered(file, work.runs):
        _write(file, RunOutcome(run, "running"))
        outcome = work.make(run)
        _write(file, outcome)
        if outcome.status == "interrupted" or (came and run != work.runs[-1]):
            if signal.SIGUSR2 in came:
                environment._requeue(0)  # submitit has no public word for it
            sys.exit(1)  # without a result, so that a task that is queued again does its work


def _write(file: Path, outcome: RunOutcome) -> None:
    """Appends an outcome. An empty line goes before it, since a node that died may have left half a line."""
    with open(file, "a", encoding="utf-8") as opened:
        opened.write("\n" + json.dumps(asdict(outcome)) + "\n")


def _outcomes(text: bytes) -> Iterator[dict[str, Any]]:
    """Yields what whole lines say. Of half a line nothing is known, so that its run is made again."""
    for line in text.splitlines():
        with suppress(ValueError):
            yield json.loads(line)


def _unanswered(file: Path, runs: Iterable[str]) -> list[str]:
    """Returns the runs of a task that is queued again, without those that it has ended before."""
    lines = file.read_bytes() if file.exists() else b""
    answered = {one["run"] for one in _outcomes(lines) if one["status"] not in STANDS}
    return [run for run in runs if run not in answered]
