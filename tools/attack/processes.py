"""Shared by the attack drivers: finds `dfw` on PATH, re-runs the script with its interpreter, and forks warm processes.

A warm process is a fork of one that has imported dfw and torch but run nothing: it behaves as `dfw ARGS` does, a second sooner.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

PIXELS = """\
extends: gaussian-2d
name: crash
device: cpu
trainer: {steps: 12, preview_every: 4, preview_width: 16, checkpoint_every: 3, keep_checkpoints: 2}
"""
FIELD = """\
name: crash
prompt: a coin
seed: 0
device: cpu
geometry:
  type: dreamfw/nerf
  encoding: {type: hash-grid, levels: 2, features: 2, log2_size: 8, base: 4, finest: 8}
  density_network: {width: 8}
  colour_network: {width: 8}
renderer: {type: dreamfw/volume, samples: 8, background: {type: random, probability: 0.7}}
guidance:
  type: dreamfw/gaussian
  resolution: 16
  std: 0.2
  means:
    a coin: [{mean: [0.9, 0.7, 0.2], weight: 0.7}, {mean: [0.6, 0.6, 0.65], weight: 0.3}]
losses:
  sds: {type: dreamfw/sds, guidance_scale: 1}
  opacity: {type: dreamfw/opacity, weight: 0.3}
prompter: {type: dreamfw/plain}
cameras: {width: 16, batch_size: 2}
trainer: {steps: 12, preview_every: 4, preview_width: 16, checkpoint_every: 3, keep_checkpoints: 2, watch_from: 1}
export: {resolution: 16, faces: 200, texture: 64, turntable_frames: 2, turntable_width: 16}
"""


def with_dfws_python() -> None:
    """Runs this script again with the interpreter that `dfw` on PATH uses."""
    if os.environ.get("DFW_ATTACK_INSIDE"):
        return
    dfw = shutil.which("dfw")
    if dfw is None:
        sys.exit("dfw is not on PATH")
    first = Path(dfw).read_bytes().split(b"\n", 1)[0].decode()
    python = first[2:].split()[0] if first.startswith("#!") else sys.executable
    os.environ |= {"DFW_ATTACK_INSIDE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    os.execv(python, [python, *sys.argv])


def warm() -> None:
    """Imports what a run imports."""
    import torch

    import dfw.cli.main
    import dfw.runs.runner
    from dfw.plugins.registry import registry

    for name in ("image", "plane", "nerf", "volume", "gaussian", "sds", "opacity", "entropy"):
        for kind in registry().kinds_of(name):
            for entry in registry().matches(kind, name):
                if entry.distribution == "dreamfw":
                    registry().load(entry)
    import torch._dynamo  # noqa: F401  (an optimiser's first step imports it, which takes seconds)

    import dfw.export.pipeline
    import dfw.report.write  # noqa: F401


class Process:
    """One `dfw ARGS`, forked; its output goes to `log`. `before` runs in the child first."""

    def __init__(self, arguments: list[str], cwd: Path, log: Path, before=None, nice: int = 0) -> None:
        self.log = log
        self.started = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs and nohup ignore
                signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these two, and a run leaves ignored what is ignored
                os.chdir(cwd)
                out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                os.dup2(out, 1)
                os.dup2(out, 2)
                sys.argv = ["dfw", *arguments]
                import torch

                torch.set_num_threads(1)
                from dfw.cli.main import main

                if before is not None:
                    before()
                code = main(arguments)
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException:
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
                code = 99
            os._exit(code)

    def signal(self, number: int) -> None:
        """Sends a signal, unless the process has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float = 120) -> int:
        """The exit code; minus the signal's number for a killed process; -1000 where it had to be killed for hanging."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.seconds = time.monotonic() - self.started
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.003)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return -1000

    @property
    def text(self) -> str:
        """What it wrote on both streams."""
        return self.log.read_text(errors="replace") if self.log.is_file() else ""


def die_at(point: int, root: Path, how: int = signal.SIGKILL):
    """A `before`: an audit hook that kills the process just before its `point`-th (from 1) file operation below `root`.

    point 0: never kills, and writes the number of operations to root.parent/'points' at exit of the operation count.
    """
    events = {
        "open",
        "os.rename",
        "os.remove",
        "os.rmdir",
        "os.mkdir",
        "os.truncate",
        "os.chmod",
        "tempfile.mkstemp",
        "tempfile.mkdtemp",
    }
    prefix = str(root)

    def install() -> None:
        seen = [0]
        counter = os.open(str(root.parent / f"{root.name}.points"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

        def hook(event: str, args: tuple) -> None:
            if event not in events or not args:
                return
            place = args[0]
            if not isinstance(place, (str, bytes, os.PathLike)):
                if not (isinstance(place, int) and event in ("os.remove", "os.rmdir")):
                    return
                place = prefix
            path = os.path.abspath(os.fsdecode(place)) if not isinstance(place, int) else prefix
            inside = path.startswith(prefix) or (
                event in ("os.remove", "os.rmdir") and len(args) > 1 and args[1] not in (None, -1)
            )
            if event == "open" and len(args) > 1 and isinstance(args[1], str) and not set(args[1]) & set("wax+"):
                flags = args[2] if len(args) > 2 and isinstance(args[2], int) else 0
                if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                    return
            if not inside:
                return
            seen[0] += 1
            os.pwrite(counter, f"{seen[0]:8d}".encode(), 0)
            if seen[0] == point:
                os.kill(os.getpid(), how)

        sys.addaudithook(hook)

    return install


def points_of(root: Path) -> int:
    """Returns how many operations `die_at` counted below `root`."""
    return int((root.parent / f"{root.name}.points").read_text() or 0)
