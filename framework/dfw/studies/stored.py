"""A sweep with a store: its plan there, and how its runs stand there. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dfw.runs.life import STATUS
from dfw.runs.seal import unsealed_json
from dfw.storage.claim import Claim, Taken, holder
from dfw.storage.place import Place
from dfw.studies.plan import CLAIMS, PLAN, PLAN_CLAIM, Planned, extended, plan_from, sealed_plan
from dfw.studies.states import state

UNCOPIED = "uncopied"
"""State of a run that is finished here, and not in the store."""
PATIENCE = 60.0  # seconds that a process waits for another one to write the plan


def stored_plan(place: Place) -> list[Planned]:
    """Reads the plan in a store; empty where it has none. Raises CheckpointError for a damaged one, and StoreError."""
    data = place.read(PLAN)
    return [] if data is None else plan_from(data, f"{place.url}/{PLAN}")


def add_to_store(place: Place, runs: Sequence[Planned]) -> list[Planned]:
    """Adds runs to the plan in the store, and returns all. Several processes may do so at once."""
    with _alone(place):
        both = extended(stored_plan(place), runs)
        place.write(PLAN, sealed_plan(both))
        return both


@contextmanager
def _alone(place: Place) -> Iterator[None]:
    claim, until = Claim(place / PLAN_CLAIM), time.monotonic() + PATIENCE
    while True:
        try:
            claim.take()
            break
        except Taken:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
    try:
        yield
    finally:
        claim.release()


def states(folder: Path, runs: Iterable[Planned], place: Place | None) -> dict[Planned, str]:
    """Returns the state of each run, here or in the store. Raises StoreError.

    `uncopied`: finished here, and not in the store, as when that did not answer.
    """
    here = {run: state(folder, run) for run in runs}
    if place is None:
        return here
    asked = [run for run, how in here.items() if how != "running"]
    said = place.read_all([f"{run.name}/{STATUS}" for run in asked])
    claimed = {name.split("/")[1] for name in place.files() if name.startswith(f"{CLAIMS}/") and name.count("/") == 2}
    for run in asked:
        there = _status(said.get(f"{run.name}/{STATUS}"))
        if there == "finished":
            here[run] = there
        elif run.name in claimed and holder(place / f"{CLAIMS}/{run.name}"):
            here[run] = "running"
        elif here[run] == "finished":
            here[run] = UNCOPIED
        elif there:
            here[run] = "killed" if there == "running" else there
    return here


def _status(data: bytes | None) -> str:
    try:
        return "" if data is None else str(unsealed_json(data).get("status", ""))
    except ValueError:
        return "killed"
