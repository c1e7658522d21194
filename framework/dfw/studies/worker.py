"""A worker of a sweep: a process that makes one run after another, so that it imports everything once."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from dfw.atomic import write_text
from dfw.compose import Composition
from dfw.config.load import load_stages
from dfw.errors import CheckpointError
from dfw.plugins.discovery import block
from dfw.plugins.listeners import load_plugin_file
from dfw.plugins.registry import rediscover
from dfw.runs import runner
from dfw.runs.call import Call
from dfw.runs.directory import STAGES
from dfw.runs.life import ending
from dfw.runs.stages import compose_stages, resume_stages, run_stages
from dfw.studies.plan import Planned
from dfw.studies.states import claim, diagnosis, directory_of, has_begun, is_left, refusal, state_of_files


@dataclass(frozen=True)
class Outcome:
    """How one run ended."""

    run: Planned
    status: str
    """`finished`, `interrupted`, `diverged`, `failed`, or `taken`: another process works on it."""
    diagnosis: str = ""
    seconds: float = 0.0
    """Wall time in this process."""


def serve(pipe: Connection, folder: Path, retry: bool, plugin_files: Sequence[Path], blocked: tuple[str, ...]) -> None:
    """Makes the runs that come through `pipe` and answers each with its Outcome. Ends when the other side is closed.

    A run that a signal ended ends it, too: it has written its checkpoint.
    """
    _leave_the_terminal()
    logging.getLogger("dfw").addHandler(logging.NullHandler())  # each run has its run.log; the lines of several would mix
    if blocked:
        block(blocked)
        rediscover()
    for path in plugin_files:
        load_plugin_file(path)
    while True:
        try:
            run = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        outcome = make(folder, run, retry)
        pipe.send(outcome)
        if outcome.status == "interrupted":
            return


def _leave_the_terminal() -> None:
    """Ctrl-C then reaches only the launcher, which sends it on once. One that came meanwhile is dropped: no run has begun."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, signal.default_int_handler)


def make(folder: Path, run: Planned, retry: bool = False) -> Outcome:
    """Makes or continues one run in its directory below `folder`. What goes wrong is in the Outcome.

    One that another process has finished meanwhile stays as it is, and without `retry` so does one that failed there.
    """
    began = time.monotonic()
    try:
        lock = claim(folder, run)
    except CheckpointError as error:
        return Outcome(run, "taken", str(error))
    except OSError as error:
        return Outcome(
            run, "failed", f"cannot write {error.filename}: {error.strerror}; only who may write a sweep may go on with it"
        )
    try:
        how = state_of_files(folder, run)
        if not is_left(how, retry):
            return Outcome(run, "taken" if how == "running" else how, diagnosis(folder, run))
        refusal(folder, run).unlink(missing_ok=True)
        status, said = _make(folder, run, Call(run.command, began)), ""
    except KeyboardInterrupt:
        status, said = "interrupted", ""
    except Exception as error:  # a run that crashes does not end the sweep
        status, said = ending(error)
        if not has_begun(folder, run):
            write_text(refusal(folder, run), said)
    finally:
        lock.release()
    return Outcome(run, status, " ".join(said.split()), time.monotonic() - began)


def _make(folder: Path, run: Planned, call: Call) -> str:
    path = directory_of(folder, run)
    if path is not None and has_begun(folder, run):
        staged = (path / STAGES).is_file()
        return (resume_stages(path, (), [], call) if staged else runner.resume(path, (), [], call=call)).status
    compositions = composed(run)
    single = compositions.get("")
    if single is None:
        return run_stages(compositions, [], call, folder / run.name).status
    return runner.run(single.config, single, [], folder / run.name, call=call).status


def composed(run: Planned) -> dict[str, Composition]:
    """Checks a planned run as `dfw run --dry-run` does. Raises ConfigError, PluginError and PromptError."""
    with TemporaryDirectory() as nowhere, chdir(run.folder if os.path.isdir(run.folder) else nowhere):  # no other file by chance
        return compose_stages(load_stages(run.config, run.overrides))
