"""Real `dfw` processes without the seconds that imports take: forked by a server that has imported what a run needs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from processes import die_at

THEN = "then"
"""Between two commands that one process does in turn, as long as they end with 0; these have no spaces in their arguments."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["dfw.cli.run", "dfw.runs.runner", "dfw_guidance.gaussian", "torch._dynamo"])


def _work(arguments: Sequence[str], folder: Path, log: Path, environment: Mapping[str, str]) -> None:
    os.chdir(folder)
    os.environ |= environment
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    import torch

    from dfw.cli.main import main

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs and nohup ignore these two
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for name in environment.get("IGNORED", "").split():
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    torch.set_num_threads(1)
    if "DIE_AT" in environment:
        die_at(int(environment["DIE_AT"]), folder / "runs")()
    code, commands = 0, " ".join(arguments).split(f" {THEN} ") if THEN in arguments else []
    for command in [one.split() for one in commands] or [list(arguments)]:
        code = code or main(command)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Dfw:
    """One `dfw ARGUMENTS` in a process of its own, begun at once.

    `IGNORED`: signals that it ignores. `DIE_AT`: it is killed before that file operation below `folder / "runs"`; at 0 never.
    """

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self._log = folder / f"log-{len(list(folder.glob('log-*')))}"
        self._log.touch()
        self._process = _context.Process(target=_work, args=(arguments, folder, self._log, environment))
        self._process.start()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self._log.read_text() if self._log.is_file() else ""

    def wait(self) -> int:
        """The exit code; minus the signal's number for a process that a signal killed."""
        self._process.join(300)
        assert self._process.exitcode is not None, f"it does not end: {self.said}"
        return self._process.exitcode


def together(folder: Path, count: int, *arguments: str, **environment: str) -> list[Dfw]:
    """Begins the `count` processes of a run on several devices, as torchrun does. The first leads."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(count)}
    return [Dfw(folder, *arguments, **place, **environment, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(count)]
