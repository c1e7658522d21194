"""Copies a run to a store while it is made, and back.

The order makes the copy a complete run at each moment: files that a checkpoint counts on, its data, the file that names them,
then what says how the run stands, and last the removal of what is old.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from dfw.atomic import filling, remove, temporary_name
from dfw.errors import DfwError
from dfw.runs.checkpoint_folder import STATE, number_of
from dfw.runs.directory import STAGES
from dfw.runs.life import STATUS
from dfw.runs.lock import LOCK
from dfw.runs.seal import unsealed_json
from dfw.storage.claim import Claim
from dfw.storage.link import LINK
from dfw.storage.place import Place, StoreError

log = logging.getLogger("dfw.storage")

PAUSE = 15.0  # seconds between attempts while the store does not answer
LAST = (0.0, 1.0, 4.0)  # seconds before each attempt at the end of a run
BEGUN = ("resolved.yaml", STAGES)
"""A folder with one of them is a run, so they come after everything that they promise."""
IDENTITY = ("config.yaml", STAGES)
"""What tells two runs of one name apart."""


class Mirror:
    """Copies one run to `place`, in a thread. `claim`: without it nothing is written."""

    def __init__(self, place: Place, claim: Claim) -> None:
        self.place = place
        self._claim = claim
        self._root: Path | None = None
        self._known: dict[str, tuple[int, int, int]] = {}
        """Name -> size, time and inode of each file that this process has copied."""
        self._checked = False
        self._due, self._ended = threading.Event(), threading.Event()
        self._failed = ""
        self._thread = threading.Thread(target=self._work, name="dfw-mirror", daemon=True)

    @property
    def lost(self) -> str:
        """As `Copying.lost`."""
        return self._claim.lost

    @property
    def folder(self) -> Path | None:
        """The run's folder; None before it is there."""
        return self._root

    def written(self, folder: Path) -> None:
        """As `Copying.written`. The first folder is the run's."""
        if self._root is None:
            self._root = folder
            self._thread.start()
        self._due.set()

    def close(self) -> str:
        """Copies what is left, and waits for it. Returns why that failed, or nothing."""
        if self._ended.is_set():
            return self._failed
        self._ended.set()
        self._due.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._root is None or self.lost:
            return ""
        for pause in LAST:
            threading.Event().wait(pause)
            if self._tried():
                return ""
        return self._failed

    def _work(self) -> None:
        while not self._ended.is_set():
            self._due.wait(PAUSE if self._failed else None)
            if self._ended.is_set() or self.lost:
                return
            self._due.clear()
            self._tried()

    def _tried(self) -> bool:
        """Copies, and warns once while that fails."""
        assert self._root is not None
        try:
            self.copy(self._root)
        except (DfwError, OSError) as error:
            if not self._failed:
                log.warning("%s; the run goes on, and is copied when the store answers", error)
            self._failed = str(error)
            return False
        if self._failed:
            log.warning("%s: answers again, and has the run up to now", self.place.url)
        self._failed = ""
        return True

    def copy(self, root: Path) -> None:
        """Copies what is new in the run's folder. Raises StoreError, and OSError where a file cannot be read."""
        for _ in range(5):  # a checkpoint may be removed, for a newer one, while it is copied
            if not self._claim.renew():
                return
            try:
                self._copy(root)
                return
            except FileNotFoundError:
                continue
        raise StoreError(f"{self.place.url}: the run's files change faster than they can be copied")

    def _copy(self, root: Path) -> None:
        self._check_identity(root)
        names = [one for one in _names(root) if PurePosixPath(one).name != STATUS]
        said = {name: (root / name).read_bytes() for name in _names(root) if name not in names}
        complete = {one.rpartition("/")[0] for one in names if _is_state(one)}
        old = sorted((name for name in names if _checkpoint(name) in complete), key=_order)
        plain = [name for name in names if not _checkpoint(name) and PurePosixPath(name).name not in BEGUN]
        last = [name for name in names if PurePosixPath(name).name in BEGUN]
        before = self.place.files()
        for name in plain:
            self._upload(root, name)
        same = {folder for folder in complete if self._has(root, folder, before)}
        self.place.remove([f"{one}/{STATE}" for one in sorted(complete - same) if f"{one}/{STATE}" in before])
        for name in old:
            if _checkpoint(name) not in same:
                self._upload(root, name)
        for name in last:
            self._upload(root, name)
        for name, data in sorted(said.items(), key=lambda one: -one[0].count("/")):  # stages first
            self.place.write(name, data)
        self._retire(before, complete)

    def _upload(self, root: Path, name: str) -> None:
        stamp = _stamp(root / name)
        if self._known.get(name) != stamp:
            self.place.upload(root / name, name)
            self._known[name] = stamp

    def _has(self, root: Path, folder: str, before: dict[str, int]) -> bool:
        """Returns whether the store has a checkpoint already, as it is here. Another process may have copied it."""
        here = {f"{folder}/{path.name}": path.stat().st_size for path in (root / folder).iterdir()}
        if any(before.get(name) != size for name, size in here.items()):
            return False
        state = f"{folder}/{STATE}"
        return self._known.get(state) == _stamp(root / state) or self.place.read(state) == (root / state).read_bytes()

    def _retire(self, before: dict[str, int], complete: set[str]) -> None:
        """Removes checkpoints that the run has removed: their state first, so that half a one is none."""
        newest = max((number_of(one.rpartition("/")[2]) for one in complete), default=-1)
        gone = [one for one in before if _checkpoint(one) and _checkpoint(one) not in complete]
        gone = [one for one in gone if number_of(_checkpoint(one).rpartition("/")[2]) < newest]
        self.place.remove(sorted(gone, key=lambda one: (not _is_state(one), one)))

    def _check_identity(self, root: Path) -> None:
        """Removes the copy of another run of this name, which was not as far as this one."""
        if self._checked:
            return
        for name in IDENTITY:
            if (root / name).is_file():
                there = self.place.read(name)
                if there is not None and there != (root / name).read_bytes():
                    self.place.remove(sorted(self.place.files(), key=lambda one: (PurePosixPath(one).name not in BEGUN, one)))
        self._checked = True


def progress(names: Iterable[str], finished: bool) -> tuple[bool, int, int] | None:
    """Says how far the run is that has these files, as what can be compared. None for what is not a run."""
    found = list(names)
    if not any(name in BEGUN for name in found):
        return None
    states = [_order(one) for one in found if _is_state(one)]
    begun = [(int(one.partition("-")[0]), -1) for one in found if one.partition("-")[0].isdecimal() and one.endswith(BEGUN[0])]
    return (finished, *max([(state[0], state[1]) for state in states] + begun, default=(0, -1)))


def bring(place: Place, here: Path | None, new: Path) -> None:
    """Brings the run from `place` if it is further there than in `here`, whose place it takes; else to `new`. Raises StoreError.

    The caller has claimed the run, so neither changes meanwhile.
    """
    there = _progress_there(place)
    if there is None:
        return
    if here is not None:
        mine = progress(_names(here), _is_finished((here / STATUS).read_bytes() if (here / STATUS).is_file() else None))
        if mine is not None and mine >= there:
            return
    fetch(place, new if here is None else here, replace=here is not None)


def _progress_there(place: Place) -> tuple[bool, int, int] | None:
    return progress(place.files(), _is_finished(place.read(STATUS)))


def fetch(place: Place, target: Path, replace: bool = False) -> Path:
    """Copies a run from the store to `target`, whole or not at all. Raises StoreError where there is none."""
    for _ in range(5):  # a checkpoint may be removed there, for a newer one, while it is copied
        files = place.files()
        if progress(files, False) is None:
            raise StoreError(f"{place.url}: holds no run")
        with filling(target) as scratch:
            try:
                for name, size in files.items():
                    if _is_of_the_run(name):
                        place.download(name, scratch / name)
                        if (scratch / name).stat().st_size != size and not name.endswith((".jsonl", ".log", ".json", ".html")):
                            raise StoreError(f"{place.url}: {name} came with another size than it has there; try again")
            except FileNotFoundError:
                continue
            for config in list(scratch.rglob(BEGUN[0])):
                for folder in ("checkpoints", "images", "export"):  # a store has no empty folders
                    (config.parent / folder).mkdir(exist_ok=True)
            old = target.rename(temporary_name(target)) if replace else None
            scratch.rename(target)
            if old is not None:
                remove(old)
            return target
    raise StoreError(f"{place.url}: the run changes faster than it can be copied; try again")


def runs_below(place: Place) -> list[str]:
    """Returns the names of the runs at or below `place`; empty for one that is there itself."""
    begun = sorted(
        {name.rpartition("/")[0] for name in place.files() if _is_of_the_run(name) and PurePosixPath(name).name in BEGUN}
    )
    found: list[str] = []
    for name in begun:
        if not any(one in ("", name) or name.startswith(f"{one}/") for one in found):
            found.append(name)
    return found


def _is_finished(status: bytes | None) -> bool:
    try:
        return status is not None and unsealed_json(status).get("status") == "finished"
    except ValueError:
        return False


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _names(root: Path) -> list[str]:
    """The files of a run, relative and with `/`."""
    found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return sorted(name for name in found if _is_of_the_run(name))


def _is_of_the_run(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not any(part.startswith(".") for part in parts) and parts[-1] not in (LOCK, LINK)


def _checkpoint(name: str) -> str:
    """Returns the folder of the checkpoint that a file belongs to; empty for another file."""
    folder = name.rpartition("/")[0]
    parts = folder.split("/")
    return folder if len(parts) > 1 and parts[-2] == "checkpoints" and number_of(parts[-1]) >= 0 else ""


def _is_state(name: str) -> bool:
    return bool(_checkpoint(name)) and name.endswith(f"/{STATE}")


def _order(name: str) -> tuple[int, int, bool, str]:
    """Sorts files of checkpoints: by stage, by step, and the state last."""
    stage = name.partition("-")[0]
    return (int(stage) if stage.isdecimal() else 0, number_of(_checkpoint(name).rpartition("/")[2]), _is_state(name), name)
