"""Real runs to track, small enough for a second each, and readers for what the trackers wrote."""

from __future__ import annotations

import signal
import struct
import time
from pathlib import Path
from typing import Any

from dfw import hookimpl
from dfw.config import load_config
from dfw.runner import RunResult, resume, run

CONFIG = Path(__file__).parents[1] / "tracked.yaml"
STEPS = 6


class StopAfter:
    """Ctrl-C after one step."""

    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def dfw_step_ended(self, step: Any) -> None:
        """Asks for it."""
        if step.progress.step == self.step:
            signal.raise_signal(signal.SIGINT)


def run_once(folder: Path, *listeners: object) -> RunResult:
    """One run of six steps into `folder`, with previews at 0, 3 and the end."""
    return run(load_config(CONFIG, [f"output={folder / 'runs'}"]), listeners=list(listeners))


def run_in_two(folder: Path) -> RunResult:
    """The same, interrupted after four steps and resumed."""
    first = run_once(folder, StopAfter(3))
    assert first.status == "interrupted"
    return resume(first.directory, listeners=[])


def tensorboard_of(directory: Path) -> Any:
    """TensorBoard's own view of a run's event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    every = {"scalars": 0, "images": 0, "tensors": 0}
    return EventAccumulator(str(directory / "tensorboard"), size_guidance=every).Reload()


def wandb_records(path: Path) -> list[Any]:
    """The records of a finished run's `.wandb` file; wandb's own process writes the last ones when the run is already over."""
    until = time.monotonic() + 30
    while True:
        found = _records(path)
        if any(record.HasField("exit") for record in found):
            return found
        assert time.monotonic() < until, f"{path} has no exit record"
        time.sleep(0.1)


def _records(path: Path) -> list[Any]:
    """7 bytes of header, then LevelDB's log format in blocks of 32 KiB; an unfinished record at the end is left out."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        if at + 7 + length > len(data):
            break
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, or the last part of several
            found.append(Record.FromString(whole))
            whole = b""
    return found
