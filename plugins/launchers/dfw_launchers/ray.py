"""Runs of a sweep as tasks of a Ray cluster."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from dfw import ComponentConfig, ConfigError, Launcher, RunOutcome, Sweep

FOLDER = "ray"
PATIENCE = 30.0
"""Seconds that a task waits for a run that another process works on: the process of a dead node may take some to end."""


class Ray(Launcher):
    """Tasks of a Ray cluster, whose nodes see the sweep's folder under the same name and have the same packages.

    A run whose node or process dies is given to another one, where it goes on from its last checkpoint. A signal to the sweep
    lets every run write a checkpoint. Ray ends the tasks of a sweep whose own process is killed. Ray sets `OMP_NUM_THREADS` of a
    task to its `cpus` where the variable is not set, and the bits of a run depend on it.
    """

    class Config(ComponentConfig):
        """Which cluster, and what a task asks of it."""

        address: str | None = None
        """The cluster: `host:6379`, or `auto` for that of this machine. Without it Ray uses this machine alone."""
        gpus: NonNegativeFloat | None = None
        """GPUs of a task; 0.5 lets two runs share one. Without it 1 where the cluster has GPUs, else 0."""
        cpus: PositiveFloat = 1.0
        """Processor cores of a task."""
        retries: NonNegativeInt = 3
        """How often a run is begun again after its node or its process has died."""

    config: Ray.Config

    def __init__(self, config: Ray.Config) -> None:
        self.config = config
        if find_spec("ray") is None:
            raise ConfigError("ray needs the package ray; pip install 'dreamfw[ray]'")

    def outcomes(self, sweep: Sweep) -> Generator[RunOutcome, None, None]:
        """Gives every run to the cluster as a task of its own."""
        if not sweep.runs:
            return
        import ray

        stop = sweep.folder / FOLDER / f"{uuid.uuid4().hex}.stop"
        stop.parent.mkdir(parents=True, exist_ok=True)
        with self._cluster(ray), _removed(stop):
            task = ray.remote(_work).options(num_cpus=self.config.cpus, num_gpus=self._gpus(ray), max_retries=self.config.retries)
            left = list(reversed(sweep.runs))
            runs: dict[Any, str] = {}
            while runs or (left and sweep.stopped() is None):
                if sweep.stopped() is not None:
                    stop.touch()  # tasks that have not begun end at once, and the others write a checkpoint
                while left and sweep.stopped() is None and len(runs) < 2 * self._slots(ray):
                    name = left.pop()
                    runs[task.remote(sweep.make, name, stop)] = name
                done, _ = ray.wait(list(runs), timeout=0.5)
                for one in done:
                    outcome = _answer(ray, one, runs.pop(one))
                    if outcome is not None:
                        yield outcome

    @contextmanager
    def _cluster(self, ray: Any) -> Iterator[None]:
        """Connects to the cluster, or starts one on this machine. The signal handlers that Ray sets are put back."""
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            _require_open(self.config.address or "")
            ray.init(address=self.config.address or "local", log_to_driver=False, include_dashboard=None, logging_level="warning")
        except (OSError, ValueError) as error:
            raise ConfigError(f"ray.address={self.config.address}: {error}; start a cluster with: ray start --head") from error
        finally:
            if threading.current_thread() is threading.main_thread():
                for number, handler in handlers.items():
                    signal.signal(number, handler)
        try:
            yield
        finally:
            ray.shutdown()

    def _slots(self, ray: Any) -> int:
        """Returns how many tasks the cluster can hold now. As many again wait, so that a cluster that grows by need does so."""
        there, gpus = ray.cluster_resources(), self._gpus(ray)
        by_gpu = [there.get("GPU", 0.0) / gpus] if gpus else []
        return max(1, int(min([there.get("CPU", 0.0) / self.config.cpus, *by_gpu])))

    def _gpus(self, ray: Any) -> float:
        return float("GPU" in ray.cluster_resources()) if self.config.gpus is None else self.config.gpus


def _require_open(address: str) -> None:
    """Raises OSError where nothing listens at `host:port`. Ray itself tries again for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10.0).close()


def _answer(ray: Any, task: Any, run: str) -> RunOutcome | None:
    """Returns what a task says of its run. None where it had not begun when the sweep was asked to end."""
    try:
        outcome: RunOutcome | None = ray.get(task)
    except ray.exceptions.RayTaskError as error:  # the task itself: a package that is missing on the node
        return RunOutcome(run, "failed", " ".join(str(error.cause or error).split()))
    except ray.exceptions.RayError as error:
        return RunOutcome(run, "killed", " ".join(str(error).split()))
    return outcome


def _work(make: Callable[[str], RunOutcome], run: str, stop: Path) -> RunOutcome | None:
    """Makes a run, on a node."""
    if stop.exists():
        return None
    ended = threading.Event()
    threading.Thread(target=_watch, args=(stop, ended), daemon=True).start()
    began = time.monotonic()
    try:
        outcome = make(run)
        while outcome.status == "taken" and time.monotonic() - began < PATIENCE and not stop.exists():
            time.sleep(1.0)
            outcome = make(run)
    finally:
        ended.set()
    return outcome


def _watch(stop: Path, ended: threading.Event) -> None:
    """Sends this process SIGTERM when the sweep is asked to end."""
    while not ended.wait(1.0):
        if stop.exists():
            if not ended.is_set():
                os.kill(os.getpid(), signal.SIGTERM)
            return


@contextmanager
def _removed(file: Path) -> Iterator[None]:
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
