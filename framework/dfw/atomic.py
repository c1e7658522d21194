"""Files that appear whole or not at all, under names that are free."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path


def names(stem: str) -> Iterator[str]:
    """Gives stem, stem-2, stem-3 ... without end."""
    yield stem
    yield from (f"{stem}-{number}" for number in count(2))


def unused(path: Path) -> Path:
    """Returns `path`, or `path` with -2, -3 ... before its suffix: the first that does not exist."""
    paths = (path.with_name(f"{name}{path.suffix}") for name in names(path.stem))
    return next(candidate for candidate in paths if not candidate.exists())


def new_folder(path: Path) -> Path:
    """Makes the folder `path`, or `path` with -2, -3 ... at its end: the first that does not exist. Raises OSError."""
    return next(made for name in names(path.name) if _made(made := path.with_name(name)))


def claim(directory: Path, stem: str, suffixes: Sequence[str]) -> str:
    """Returns the first of stem, stem-2, stem-3 ... of which no file exists.

    The files are created empty, so that no other process takes the name.
    """
    return next(name for name in names(stem) if _claimed([directory / f"{name}{suffix}" for suffix in suffixes]))


def _made(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def _claimed(paths: Sequence[Path]) -> bool:
    made: list[Path] = []
    try:
        for path in paths:
            path.open("x").close()
            made.append(path)
    except FileExistsError:
        for path in made:
            path.unlink()
        return False
    return True


def write_whole(path: Path, data: bytes) -> None:
    """Puts `data` at `path` in one go: a temporary file next to it, then a rename."""
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


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole, as UTF-8."""
    write_whole(path, text.encode())
