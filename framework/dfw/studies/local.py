"""The launcher of one machine: worker processes that each make one run after another. It imports no torch itself."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from dfw.runs.signals import stopping
from dfw.studies.plan import Planned
from dfw.studies.worker import Outcome, serve

log = logging.getLogger("dfw.studies")

_context = multiprocessing.get_context("spawn")  # a fork would take torch's threads along, of which only one is copied


@dataclass(frozen=True)
class Plugins:
    """What a worker does before its first run: as `--plugin` and `--block` say."""

    files: Sequence[Path] = ()
    blocked: tuple[str, ...] = ()


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    run: Planned | None = None


@dataclass
class LocalLauncher:
    """Makes runs in `processes` workers.

    A worker that dies in the middle of a run, killed for its memory or by a fault of native code, is replaced; its run counts
    as killed. A signal goes to all workers, whose runs write a checkpoint. Workers of a launcher that was killed itself finish
    the run that they are at.
    """

    folder: Path
    processes: int = 1
    plugins: Plugins = field(default_factory=Plugins)
    gpus: Sequence[str] = ()
    """What CUDA_VISIBLE_DEVICES names, one for each worker in turn. Empty: each worker sees what this process does."""
    retry: bool = False
    """Whether runs that failed are tried again, also those that another process has tried meanwhile."""
    signal: int | None = field(default=None, init=False)
    """The signal that ended it early."""
    _workers: list[_Worker] = field(default_factory=list, init=False)

    def outcomes(self, runs: Sequence[Planned]) -> Iterator[Outcome]:
        """Makes the runs, and gives each Outcome when it is there. Ends early after a signal."""
        left = list(reversed(runs))
        with stopping() as stop, self._at_work():
            for number in range(min(self.processes, len(runs))):
                self._workers.append(self._begin(number))
                self._next(self._workers[-1], left)
            while any(worker.run is not None for worker in self._workers):
                self._forward(stop.number)
                busy = {worker.pipe: worker for worker in self._workers if worker.run is not None}
                for pipe in wait(list(busy), timeout=0.2):
                    worker = busy[pipe]  # type: ignore[index]
                    outcome = self._answer(worker)
                    yield outcome
                    if outcome.status == "interrupted":
                        worker.process.join()  # it ends after such a run, and takes some time to
                    if self.signal is None and stop.number is None:
                        self._next(self._alive(worker), left)

    def _answer(self, worker: _Worker) -> Outcome:
        run, worker.run = worker.run, None
        assert run is not None
        try:
            outcome: Outcome = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            code = worker.process.exitcode or 0
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            return Outcome(run, "killed", f"its process ended with {how}")
        return outcome

    def _next(self, worker: _Worker, left: list[Planned]) -> None:
        """Gives a worker something to do; it ends where nothing is left."""
        if not left:
            worker.pipe.close()
            return
        worker.run = left.pop()
        with suppress(OSError):  # it died meanwhile, and `_answer` finds that
            worker.pipe.send(worker.run)

    def _alive(self, worker: _Worker) -> _Worker:
        """Returns the worker, or another in its place."""
        if worker.process.is_alive():
            return worker
        number = self._workers.index(worker)
        worker.pipe.close()
        self._workers[number] = self._begin(number)
        return self._workers[number]

    def _begin(self, number: int) -> _Worker:
        ours, theirs = _context.Pipe()
        process = _context.Process(
            target=serve,
            args=(theirs, self.folder, self.retry, self.plugins.files, self.plugins.blocked),
            name=f"dfw-sweep-{number}",
        )
        with _environment(self._surroundings(number)), _held_back():
            process.start()
        theirs.close()  # so that the pipe ends when the worker does
        return _Worker(process, ours)

    def _surroundings(self, number: int) -> dict[str, str]:
        """Threads that share the cores, unless the user has chosen; and a GPU for each worker."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        chosen = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(max(1, cores // self.processes))}
        return chosen | ({"CUDA_VISIBLE_DEVICES": self.gpus[number % len(self.gpus)]} if self.gpus else {})

    def _forward(self, number: int | None) -> None:
        """Sends the first signal on."""
        if number is None or self.signal is not None:
            return
        self.signal = number
        self._send(number)

    def _send(self, number: int) -> None:
        for worker in self._workers:
            if worker.process.pid is not None and worker.run is not None:
                with suppress(OSError):
                    os.kill(worker.process.pid, number)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:  # a second signal: the runs end at once
            self._send(signal.SIGTERM)
            raise
        finally:
            for worker in self._workers:
                worker.pipe.close()
            for worker in self._workers:
                worker.process.join()


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Sets variables while a process starts, which inherits them."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _held_back() -> Iterator[None]:
    """A process that starts inside gets no Ctrl-C until it asks for it (`worker.serve`): it would stop with a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def gpus() -> list[str]:
    """Returns what CUDA_VISIBLE_DEVICES calls each GPU that this process sees."""
    import torch

    named = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return (named or [str(number) for number in range(count)])[:count]
