"""One process for each run: a lock on `run.lock`, which the kernel releases when that process ends, in whatever way.

Imports no torch.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dfw.errors import CheckpointError
from dfw.plugins.fence import end_copy

log = logging.getLogger("dfw.runs")

LOCK = "run.lock"
"""File in a run's directory; it stays, because to delete a lock file would let two processes in."""
TRIES, PAUSE = 20, 0.05  # whoever asks `is_locked` holds the lock for an instant, which must not look like a run
PATIENCE = 30.0  # seconds: a plan of 10,000 runs is written in one
UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""Errors of file systems that cannot lock a file."""

_fcntl: Any = import_module("fcntl") if find_spec("fcntl") else None  # Windows has none


@dataclass(frozen=True)
class Holder:
    """The process that works on a run."""

    pid: int
    host: str
    started: str
    """UTC, ISO 8601."""

    @staticmethod
    def this_process() -> Holder:
        """Returns the process that asks."""
        return Holder(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.host} since {self.started}"


class RunLock:
    """The lock of the run in `folder`, held between `take` and `release`.

    A lock of this kind belongs to the open file, which a forked child shares. So a child closes its copy at once: it does not
    keep the run locked when its parent dies. Nor may it go on with the run (`check`).
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self.holder = Holder.this_process()
        self._file: int | None = None

    def take(self) -> None:
        """Locks the run. Raises CheckpointError that names who holds it. Warns where the file system cannot lock."""
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise CheckpointError(
                f"cannot write {self.path}: {error.strerror}; only who may write a run may go on with it"
            ) from error
        _held.add(self)
        if not self._lock():
            who = _holder(self.path)
            self.release()
            raise CheckpointError(
                f"{self.path.parent}: is being continued by {who or 'another process'}; wait until it ends, or stop it"
                + ("" if who is None else f" there with: kill {who.pid}")
            )
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(asdict(self.holder)).encode(), 0)

    def _lock(self) -> bool:
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE)
            if _locks(self._file, exclusive=True) is not False:
                return True
        return False

    def check(self) -> None:
        """Ends a forked child that came back into the run: two processes would write the same files."""
        end_copy(self.holder.pid, "a component of this run")

    def release(self) -> None:
        """Unlocks the run."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        _held.discard(self)


@contextmanager
def waiting(lock: RunLock) -> Iterator[None]:
    """Holds `lock` inside. Waits up to `PATIENCE` seconds for another process, which holds it for a moment only."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            lock.take()
            break
        except CheckpointError:
            if time.monotonic() > until:
                raise
    try:
        yield
    finally:
        lock.release()


_held: set[RunLock] = set()  # not weak: Ctrl-C in the callback of a weak reference is a traceback that nobody can catch


def _close_in_child() -> None:
    for lock in tuple(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def is_locked(folder: Path) -> bool | None:
    """Returns whether a process works on the run in `folder`; None where the file system cannot tell."""
    try:
        file = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        locked = _locks(file, exclusive=False)
    finally:
        os.close(file)
    return None if locked is None else not locked


def _locks(file: int | None, exclusive: bool) -> bool | None:
    """Tries to lock an open file. Returns None, with one warning in a process, where that cannot be done."""
    try:
        if _fcntl is None:
            raise OSError(errno.ENOSYS, "this system has no flock")
        _fcntl.flock(file, (_fcntl.LOCK_EX if exclusive else _fcntl.LOCK_SH) | _fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            return False
        _warn_once(error)
        return None
    return True


_warned: list[OSError] = []


def _warn_once(error: OSError) -> None:
    if not _warned:
        _warned.append(error)
        log.warning("runs cannot be locked here (%s); take care that only one process goes on with a run", error.strerror)


def _holder(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # it is just being written
