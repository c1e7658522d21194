"""Files that appear whole or not at all, under names that are free. What a kill leaves has a name that says so."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from dfw.errors import ConfigError, DfwError, ExportError

MOST = 10_000  # numbered names that are tried: more than anyone makes of one kind, so that no search is without end
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TEMPORARY = re.compile(r"^\..*\.(\d+)\.[0-9a-f]{8}\.tmp$")

Found = TypeVar("Found")


@contextmanager
def writing(
    what: str | Path,
    kind: type[DfwError] = ExportError,
    again: str = "try again",
    otherwise: str = "choose another output folder",
) -> Iterator[None]:
    """Turns an OSError in the block into one sentence of the class `kind`: `cannot write <what>: <reason>; <remedy>`.

    again: what to do when there is room on a full device. otherwise: the remedy for every other reason.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and "null byte" not in str(error):
            raise
        number = error.errno if isinstance(error, OSError) else None
        if number in FULL:
            raise kind(f"cannot write {what}: no space left on the device; make room, then {again}") from error
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise kind(f"cannot write {what}: {reason[:1].lower()}{reason[1:]}; {otherwise}") from error


def require_writable(path: Path, what: str, otherwise: str = "choose another output folder") -> None:
    """Checks, before long work, that something can be made at `path`. Leaves nothing there. Raises ConfigError as `writing`.

    It is the folder itself that is tried, or the nearest one above it that is there.
    """
    place = Path(os.path.abspath(path))
    while not os.path.lexists(place):
        place = place.parent
    with writing(what, ConfigError, otherwise=otherwise), tempfile.TemporaryFile(dir=place):
        pass


def unused(path: Path) -> Path:
    """Returns `path`, or `path` with -2, -3 ... before its suffix: the first that does not exist. Raises OSError."""
    return _first(path, lambda candidate: None if os.path.lexists(candidate) else candidate)


def new_folder(path: Path) -> Path:
    """Makes the folder `path`, or `path` with -2, -3 ... at its end: the first that does not exist. Raises OSError."""

    def made(folder: Path) -> Path | None:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if os.path.lexists(folder):
                return None
            raise  # a parent is a file, or a link to a place that is not there
        return folder

    return _first(path, made, suffix="")


def _first(path: Path, accept: Callable[[Path], Found | None], suffix: str | None = None) -> Found:
    """Returns what `accept` gives for the first of path, path-2, path-3 ... for which it gives something."""
    ending = path.suffix if suffix is None else suffix
    stem = path.name.removesuffix(ending)
    for name in (stem, *(f"{stem}-{number}" for number in range(2, MOST + 1))):
        found = accept(path.with_name(f"{name}{ending}"))
        if found is not None:
            return found
    raise FileExistsError(errno.EEXIST, f"the first {MOST} names are taken", str(path))


def put_new(folder: Path, stem: str, endings: Iterable[str], contents: Callable[[str], Mapping[str, bytes]]) -> dict[str, Path]:
    """Writes new files `folder/<stem><ending>` and returns ending -> path. Replaces none, and leaves none half written.

    contents: stem -> ending -> data, of all `endings` or fewer. The stem is the first of object, object-2, ... under which no
    file with one of the endings exists; if another process takes it meanwhile, `contents` is asked again with the next.
    """

    def put(path: Path) -> dict[str, Path] | None:
        if any(os.path.lexists(path.with_name(path.name + ending)) for ending in endings):
            return None
        files = {path.with_name(path.name + ending): (ending, data) for ending, data in contents(path.name).items()}
        waiting: dict[Path, Path] = {}
        placed: list[Path] = []
        try:
            for one, (_, data) in files.items():
                waiting[one] = temporary_name(one)
                write_file(waiting[one], data)
            # The main file comes last, so that what it refers to is there.
            placed += [one for one in reversed(files) if _place(waiting[one], one)]
            done = len(placed) == len(files)
        except BaseException:
            done = False
            raise
        finally:
            for one in [*waiting.values(), *(() if done else placed)]:
                one.unlink(missing_ok=True)
        sync_folder(folder)
        return {ending: one for one, (ending, _) in files.items()} if done else None

    return _first(folder / stem, put, suffix="")


def move_new(source: Path, path: Path) -> Path:
    """Moves the file `source` to `path`, or to `path` with -2, -3 ... before its suffix. Replaces none."""
    with source.open("rb") as file:
        os.fsync(file.fileno())

    def moved(candidate: Path) -> Path | None:
        if not _place(source, candidate):
            return None
        source.unlink(missing_ok=True)
        return candidate

    found = _first(path, moved)
    sync_folder(found.parent)
    return found


@contextmanager
def filling(path: Path) -> Iterator[Path]:
    """A temporary folder next to `path`. `rename_new` gives it its name; what is not renamed is removed."""
    folder = temporary_name(path)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        remove(folder)


def rename_new(source: Path, path: Path) -> Path:
    """Renames the folder `source` to `path`, or to path-2, path-3 ... Replaces no file, and no folder that holds something."""

    def renamed(candidate: Path) -> Path | None:
        try:
            return source.rename(candidate)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) or not os.path.lexists(candidate):
                raise
            return None

    found = _first(path, renamed, suffix="")
    sync_folder(found.parent)
    return found


def _place(source: Path, path: Path) -> bool:
    """Gives the file `source` the name `path` too, in one go. False if something has that name."""
    try:
        os.link(source, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            path.open("xb").close()
        except FileExistsError:
            return False
        os.replace(source, path)
    return True


def write_whole(path: Path, data: bytes) -> None:
    """Puts `data` at `path` in one go: a temporary file next to it, flushed to the disk, then a rename."""
    temporary = temporary_name(path)
    try:
        write_file(temporary, data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole, as UTF-8."""
    write_whole(path, text.encode())


def write_file(path: Path, data: bytes) -> None:
    """Writes a new file and flushes it to the disk."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flushes the names in `folder` to the disk, so that a rename outlives a power cut. Not every system has a way to."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(handle)


def temporary_name(path: Path) -> Path:
    """Returns a new name next to `path` for what is not complete; it holds the number of this process."""
    return path.with_name(f".{path.name[:50]}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def sweep(folder: Path) -> None:
    """Removes the temporary files and folders in `folder` that a killed process left. Those of living processes stay."""
    for path in folder.iterdir() if folder.is_dir() else ():
        found = _TEMPORARY.match(path.name)
        if found and not _lives(int(found[1])):
            remove(path)


def remove(path: Path) -> None:
    """Removes a file or a whole folder. What cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    """Returns whether another process of this number runs here; this one has nothing half written when it sweeps."""
    if process == os.getpid():
        return False
    if os.name == "nt":  # there `kill` sends Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
