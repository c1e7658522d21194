"""Who works on a run of a store: a claim that its holder renews, and that lapses when it does not.

Claims of one run are numbered, and the largest number counts. A new one is created under the next number, which a store gives to
one alone of those that ask (S3: `If-None-Match`). So nobody removes another's claim and then takes it for free. How old a claim
is says the store's clock, since those of two machines differ.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import asdict

from dfw.errors import CheckpointError, DfwError
from dfw.runs.lock import Holder
from dfw.storage.place import Place

log = logging.getLogger("dfw.storage")

LAPSES = 120.0  # seconds: longer than a slow network holds up a renewal, and short beside an hour of work that waits
RENEWED = 20.0  # seconds between renewals


class Taken(CheckpointError):
    """Another process has the run."""


class Claim:
    """A claim in `place`, held from `take` to `release`. A thread renews it meanwhile."""

    def __init__(self, place: Place, folder: str = "") -> None:
        """`folder`: the identity of the folder in which this process works. Whoever asks holds that folder's own lock."""
        self._place = place
        self._said = asdict(Holder.this_process()) | {"folder": folder}
        self._name = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="dfw-claim", daemon=True)
        self.lost = ""
        """Who has taken the run from this process, which could not renew its claim for too long. Empty while it is held."""

    def take(self) -> None:
        """Takes the run. Raises Taken where another has it, and StoreError."""
        names = _names(self._place)
        if names:
            other = self._place.read_json(names[-1])
            age = self._place.age(names[-1])
            if age is not None and age < LAPSES and not (self._said["folder"] and other.get("folder") == self._said["folder"]):
                raise Taken(_taken(self._place, other))
        name = f"{_number(names) + 1:06d}"
        if not self._place.create(name, self._data()):
            raise Taken(_taken(self._place, self._place.read_json(name)))
        self._name = name
        self._place.remove(names)
        self._thread.start()

    def _data(self) -> bytes:
        return json.dumps(self._said).encode()

    def _keep(self) -> None:
        """Renews the claim. While the store does not answer, the claim grows old, and others may take the run."""
        while not self.lost and not self._ended.wait(RENEWED):
            try:
                self.renew()
            except (DfwError, FileNotFoundError) as error:
                log.info("%s: the claim is not renewed: %s", self._place.url, error)

    def renew(self) -> bool:
        """Says that this process still works on it. Returns whether the run is still its own."""
        names = _names(self._place)
        if not self.lost and names[-1:] != [self._name]:
            self.lost = _who(self._place.read_json(names[-1])) if names else "another process, which has ended"
        if not self.lost:
            self._place.write(self._name, self._data())
        return not self.lost

    def release(self) -> None:
        """Lets others have the run. A store that does not answer keeps the claim until it lapses."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._name and not self.lost:
            try:
                self._place.remove([self._name])
            except (DfwError, FileNotFoundError) as error:
                log.info("%s: the claim stays until it lapses: %s", self._place.url, error)


def holder(place: Place) -> str:
    """Returns who holds a claim that has not lapsed; empty where nobody does."""
    names = _names(place)
    age = place.age(names[-1]) if names else None
    return _who(place.read_json(names[-1])) if age is not None and age < LAPSES else ""


def _names(place: Place) -> list[str]:
    return sorted(name for name in place.files() if name.isdecimal())


def _number(names: list[str]) -> int:
    return int(names[-1]) if names else 0


def _who(said: dict[str, object]) -> str:
    try:
        return str(Holder(**{key: said[key] for key in ("pid", "host", "started")}))  # type: ignore[arg-type]
    except KeyError:
        return "another process"


def _taken(place: Place, said: dict[str, object]) -> str:
    return f"{place.url}: is being made by {_who(said)}; its claim lapses {LAPSES:g} s after that process last renewed it"
