"""Real runs to track, small enough for a second each, and readers for what the trackers wrote."""

from __future__ import annotations

import os
import struct
import time
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from dfw import RunStarted

CONFIG = Path(__file__).parents[1] / "tracked.yaml"
MEDDLER = Path(__file__).with_name("meddler.py")
STEPS = 6

heard: list[RunStarted] = []
"""What `meddler.py` was told of the runs that it was given to."""


def dfw(*arguments: str | Path) -> int:
    """The command `dfw` in this process: its exit code."""
    (script,) = entry_points(group="console_scripts", name="dfw")
    code: int = script.load()([str(argument) for argument in arguments])
    return code


def run_once(folder: Path, *options: str | Path, code: int = 0) -> Path:
    """One run of six steps, with previews at 0, 3 and the end: its directory, the only one below `folder`."""
    assert dfw("run", CONFIG, f"output={folder / 'runs'}", *options) == code
    (directory,) = (folder / "runs").glob("*/*")
    return directory


def run_in_two(folder: Path) -> Path:
    """The same, interrupted after four steps and resumed."""
    with patch.dict(os.environ, MEDDLER_STOPS_AFTER="3"):
        directory = run_once(folder, "--plugin", MEDDLER, code=130)
    assert dfw("run", "--resume", directory) == 0
    return directory


def started(directory: Path, first_step: int = 0) -> RunStarted:
    """What listeners are told when a run of six steps begins in `directory`, or goes on there."""
    return replace(_told(), directory=directory, first_step=first_step)


@cache
def _told() -> RunStarted:
    """A real one, of a run that nobody tracks."""
    with TemporaryDirectory() as folder, patch.dict(os.environ, DFW_TRACKERS=""):
        run_once(Path(folder), "--plugin", MEDDLER)
    return heard[-1]


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
