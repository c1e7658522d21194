"""What the lock's file says."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from dfw.runs.lock import RunLock


def test_the_file_holds_only_who_has_the_lock_now(tmp_path: Path) -> None:
    """Also where one with a longer name had it before."""
    lock = RunLock(tmp_path)
    lock.path.write_text(json.dumps({"host": "x" * 500, "pid": 1}))
    lock.take()
    try:
        assert json.loads(lock.path.read_text()) == asdict(lock.holder)
    finally:
        lock.release()
