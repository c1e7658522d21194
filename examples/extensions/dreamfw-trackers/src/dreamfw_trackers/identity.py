"""A tracker's own name for a run, kept in the run's directory: a resumed run is the same one."""

from __future__ import annotations

import uuid
from pathlib import Path


def identity(directory: Path, tracker: str) -> str:
    """Returns the name, drawn once: 16 hexadecimal digits."""
    path = directory / tracker / "run-id"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        path.write_text(uuid.uuid4().hex[:16], encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
