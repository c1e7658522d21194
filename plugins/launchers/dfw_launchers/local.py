"""Runs of a sweep on this machine: worker processes that each make one run after another."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from pydantic import PositiveInt

from dfw import ComponentConfig, Launcher, RunOutcome, Sweep

_context = multiprocessing.get_context("spawn")  # a fork would take torch's threads along, of which only one is copied


class Local(Launcher):
    """Worker processes on this machine. A worker imports everything once, and makes one run after another.

    A worker that dies in the middle of a run, killed for its memory or by a fault of native code, is replaced; its run counts as
    killed. A signal goes to all workers, whose runs write a checkpoint. If the sweep's own process is killed, each worker
    finishes the run that it is at. Workers share the cores, unless `OMP_NUM_THREADS` says how many threads each has.
    """

    class Config(ComponentConfig):
        """How many workers there are."""

        processes: PositiveInt | None = None
        """Runs at a time. Without it there is one for each GPU that this process sees, or one."""

    config: Local.Config

    def __init__(self, config: Local.Config) -> None:
        self.config = config

    def outcomes(self, sweep: Sweep) -> Generator[RunOutcome, None, None]:
        """Makes the runs in workers."""
        found = gpus()
        workers = _Workers(sweep, min(self.config.processes or max(1, len(found)), len(sweep.runs)), found)
        with workers.at_work():
            yield from workers.outcomes()


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    run: str | None = None


class _Workers:
    """The workers of one sweep. `gpus`: what CUDA_VISIBLE_DEVICES names, one for each worker in turn, if there are any."""

    def __init__(self, sweep: Sweep, processes: int, gpus: list[str]) -> None:
        self.sweep, self.processes, self.gpus = sweep, processes, gpus
        self.left = list(reversed(sweep.runs))
        self.workers: list[_Worker] = []
        self.told = False
        """Whether the workers have got the signal that ends the sweep."""

    def outcomes(self) -> Generator[RunOutcome, None, None]:
        for number in range(self.processes):
            self.workers.append(self._begin(number))
            self._next(self.workers[-1])
        while any(worker.run is not None for worker in self.workers):
            self._forward()
            busy = {worker.pipe: worker for worker in self.workers if worker.run is not None}
            for pipe in wait(list(busy), timeout=0.2):
                worker = busy[pipe]  # type: ignore[index]
                outcome = _answer(worker)
                yield outcome
                if outcome.status == "interrupted":
                    worker.process.join()  # it ends after such a run, and takes some time to
                if self.sweep.stopped() is None:
                    self._next(self._alive(worker) if self.left else worker)

    def _next(self, worker: _Worker) -> None:
        """Gives a worker something to do; it ends where nothing is left."""
        if not self.left:
            worker.pipe.close()
            return
        worker.run = self.left.pop()
        with suppress(OSError):  # it died meanwhile, and `_answer` finds that
            worker.pipe.send(worker.run)

    def _alive(self, worker: _Worker) -> _Worker:
        """Returns the worker, or another in its place."""
        if worker.process.is_alive():
            return worker
        number = self.workers.index(worker)
        worker.pipe.close()
        self.workers[number] = self._begin(number)
        return self.workers[number]

    def _begin(self, number: int) -> _Worker:
        ours, theirs = _context.Pipe()
        process = _context.Process(target=_serve, args=(theirs, self.sweep.make), name=f"dfw-sweep-{number}")
        with _environment(self._surroundings(number)), _held_back():
            process.start()
        theirs.close()  # so that the pipe ends when the worker does
        return _Worker(process, ours)

    def _surroundings(self, number: int) -> dict[str, str]:
        """Threads that share the cores, unless the user has chosen; and a GPU for each worker."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        chosen = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(max(1, cores // self.processes))}
        return chosen | ({"CUDA_VISIBLE_DEVICES": self.gpus[number % len(self.gpus)]} if self.gpus else {})

    def _forward(self) -> None:
        """Sends the first signal on, once."""
        number = self.sweep.stopped()
        if number is not None and not self.told:
            self.told = True
            self._send(number)

    def _send(self, number: int) -> None:
        for worker in self.workers:
            if worker.process.pid is not None and worker.run is not None:
                with suppress(OSError):
                    os.kill(worker.process.pid, number)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        try:
            yield
        except (KeyboardInterrupt, GeneratorExit):  # a second signal: the runs end at once
            self._send(signal.SIGTERM)
            raise
        finally:
            for worker in self.workers:
                worker.pipe.close()
            for worker in self.workers:
                worker.process.join()


def _answer(worker: _Worker) -> RunOutcome:
    run, worker.run = worker.run, None
    assert run is not None
    try:
        outcome: RunOutcome = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join()
        code = worker.process.exitcode or 0
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return RunOutcome(run, "killed", f"its process ended with {how}")
    return outcome


def _serve(pipe: Connection, make: Callable[[str], RunOutcome]) -> None:
    """Makes the runs that come through `pipe` and answers each with its outcome. Ends when the other side is closed.

    A run that a signal ended ends it, too: it has written its checkpoint, or it has not begun.
    """
    stopped = _leave_the_terminal()
    while True:
        try:
            run = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        outcome = RunOutcome(run, "interrupted") if stopped else make(run)
        pipe.send(outcome)
        if outcome.status == "interrupted":
            return


def _leave_the_terminal() -> bool:
    """Ctrl-C then reaches only the launcher, which sends it on once. Returns whether one came while the process began."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        except KeyboardInterrupt:
            return True
    return False


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
    """A process that starts inside gets no Ctrl-C until it asks for it (`_serve`): it would stop with a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # before: the first process starts it, and it lets signals through again
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
