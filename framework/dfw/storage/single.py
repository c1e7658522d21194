"""One run with a store of its own: it is copied there while it is made, and another machine goes on from there.

Imports no torch.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dfw.errors import ConfigError
from dfw.runs.copies import copied_by
from dfw.runs.lock import RunLock
from dfw.storage.claim import Claim, Taken
from dfw.storage.link import identity_of, link
from dfw.storage.mirror import IDENTITY, Mirror, bring, runs_below
from dfw.storage.place import Place, StoreError

CLAIMS = ".claims"
"""Folder of the store. What begins with a point is not a part of a run, so nobody fetches it."""


class _Linked(Mirror):
    """Notes in the run's folder where its copy is, so that it goes on with it."""

    def __init__(self, place: Place, claim: Claim, identity: str) -> None:
        super().__init__(place, claim)
        self._identity = identity

    def written(self, folder: Path) -> None:
        """As `Copying.written`. The first folder is the run's."""
        if self._root is None:
            link(folder, self.place.url, self._identity)
        super().written(folder)


def check_new(place: Place) -> None:
    """Raises ConfigError where a new run cannot be copied to `place`, since it has one; StoreError where it does not answer."""
    place.require()
    if runs_below(place):
        raise ConfigError(f"--store {place.url}: holds a run already; go on with `dfw run --resume {place.url}`, or name another")


@contextmanager
def copied(place: Place, folder: Path | None = None) -> Iterator[None]:
    """The run that is made inside is copied to `place`.

    folder: of a run that goes on. It is there first, or brought from the store where that has come further.

    Raises ConfigError where the store has no such run, or a different one, Taken where another process has the run or takes it
    meanwhile, and StoreError where the store does not answer, or does not at the end have all that the run has made.
    """
    identity = (identity_of(folder) if folder else "") or secrets.token_hex(8)
    claim = Claim(place / CLAIMS, identity)
    mirror, left = _Linked(place, claim, identity), ""
    try:
        if folder is None:
            claim.take()
            check_new(place)
        else:
            _further(place, folder, claim)
            mirror.written(folder)
        with copied_by(mirror):
            yield
    finally:
        left = mirror.close()
        claim.release()
    if claim.lost:
        raise Taken(f"{place.url}: {claim.lost} has taken the run; this process has ended its own")
    if left:
        raise StoreError(f"{left}; the run is whole here, and `dfw run --resume {mirror.folder}` copies it again")


def _further(place: Place, folder: Path, claim: Claim) -> None:
    """Claims the run, and brings it to `folder` if the store has come further."""
    place.require()
    lock = RunLock(folder) if folder.is_dir() else None
    if lock is not None:
        lock.take()  # the claim lets every process of this folder in
    try:
        claim.take()
        found = runs_below(place)
        if found != [""] and (found or lock is None):
            raise ConfigError(f"{place.url}: holds {'other runs' if found else 'no run'}; give the URL of a run's own store")
        for name in IDENTITY if found and lock is not None else ():
            here = (folder / name).read_bytes() if (folder / name).is_file() else None
            if place.read(name) != here:
                raise ConfigError(f"{place.url}: holds another run than {folder}; give that run a store of its own")
        bring(place, None if lock is None else folder, folder)
    finally:
        if lock is not None:
            lock.release()
