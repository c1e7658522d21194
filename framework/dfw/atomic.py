"""Files that appear whole or not at all, under names nobody has taken."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path


def claim(directory: Path, stem: str, suffixes: Sequence[str]) -> str:
    """The first of stem, stem-2, stem-3 ... of which no file exists; they are created empty, so that nobody else takes it."""
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}-{number}"
        made: list[Path] = []
        try:
            for suffix in suffixes:
                path = directory / f"{name}{suffix}"
                path.open("x").close()
                made.append(path)
            return name
        except FileExistsError:
            for path in made:
                path.unlink()
        number += 1


def write_whole(path: Path, data: bytes) -> None:
    """Puts `data` at `path` in one go: a temporary file beside it, then a rename."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
