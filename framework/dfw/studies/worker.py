"""Makes one run of a sweep, in whatever process a launcher gives it."""

from __future__ import annotations

import logging
import os
import time
from contextlib import chdir
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from dfw.atomic import write_text
from dfw.compose import Composition
from dfw.config.load import load_stages
from dfw.errors import CheckpointError, DfwError
from dfw.interfaces.launcher import RunOutcome
from dfw.plugins.discovery import block
from dfw.plugins.listeners import load_plugin_file
from dfw.plugins.registry import rediscover
from dfw.runs import runner
from dfw.runs.call import Call
from dfw.runs.copies import copied_by
from dfw.runs.directory import STAGES
from dfw.runs.file_check import FileChecks
from dfw.runs.kept_models import KeptModels
from dfw.runs.life import ending
from dfw.runs.stages import compose_stages, resume_stages, run_stages
from dfw.storage.claim import Claim, Taken
from dfw.storage.link import identity_of, link
from dfw.storage.mirror import Mirror, bring
from dfw.storage.place import Place
from dfw.studies.plan import CLAIMS, Planned, read_plan
from dfw.studies.states import (
    claim,
    diagnosis,
    directory_of,
    has_begun,
    is_left,
    next_directory,
    refusal,
    state_of_files,
)
from dfw.studies.stored import stored_plan

MODELS = KeptModels()
"""Those of this process, which may make several runs."""


@dataclass(frozen=True)
class Maker:
    """Makes runs of the sweep in `folder` by name. It can be pickled, and works on any machine that sees the folder."""

    folder: Path
    retry: bool = False
    """Whether runs that failed are tried again, also those that another process has tried meanwhile."""
    store: str = ""
    """URL to which runs are copied, and from which those of lost machines go on."""
    plugin_files: tuple[Path, ...] = ()
    blocked: tuple[str, ...] = ()

    def __call__(self, name: str) -> RunOutcome:
        """Makes or continues the run."""
        _prepare(self.plugin_files, self.blocked)
        return make(self.folder, _by_name(self.folder, self.store)[name], self.retry, self.store)


@cache
def _prepare(plugin_files: tuple[Path, ...], blocked: tuple[str, ...]) -> None:
    """Does once in a process what `--plugin` and `--block` say."""
    logging.getLogger("dfw").addHandler(logging.NullHandler())  # each run has its run.log; the lines of several would mix
    if blocked:
        block(blocked)
        rediscover()
    for path in plugin_files:
        load_plugin_file(path)


@cache
def _by_name(folder: Path, store: str) -> dict[str, Planned]:
    """Returns the runs of a plan, which holds every run before a launcher begins."""
    if store:
        link(folder, store)
    return {run.name: run for run in (stored_plan(Place(store)) if store else read_plan(folder))}


def make(folder: Path, run: Planned, retry: bool = False, store: str = "") -> RunOutcome:
    """Makes or continues one run in its directory below `folder`. What goes wrong is in the outcome.

    One that another process has finished meanwhile stays as it is, and without `retry` so does one that failed there. With a
    `store` the run is copied there, and what is there goes on here where it is further.
    """
    began = time.monotonic()
    try:
        lock = claim(folder, run)
    except CheckpointError as error:
        return RunOutcome(run.name, "taken", str(error))
    except OSError as error:
        return RunOutcome(
            run.name, "failed", f"cannot write {error.filename}: {error.strerror}; only who may write a sweep may go on with it"
        )
    try:
        if store and state_of_files(folder, run) != "running":
            return _shared(folder, run, retry, began, Place(store))
        return _alone(folder, run, retry, began)
    finally:
        lock.release()


def _shared(folder: Path, run: Planned, retry: bool, began: float, store: Place) -> RunOutcome:
    """Makes a run that other machines can go on with."""
    place, claim = store / run.name, Claim(store / f"{CLAIMS}/{run.name}", identity_of(folder))
    try:
        claim.take()
    except Taken as error:
        return RunOutcome(run.name, "taken", str(error))
    except DfwError as error:
        return RunOutcome(run.name, "failed", " ".join(str(error).split()), time.monotonic() - began)
    mirror = Mirror(place, claim)
    try:
        path = directory_of(folder, run)
        begun = path if path is not None and has_begun(folder, run) else None
        bring(place, begun, next_directory(folder, run))
        path = directory_of(folder, run)
        if path is not None and has_begun(folder, run):
            mirror.written(path)
        with copied_by(mirror):
            outcome = _alone(folder, run, retry, began)
        left = mirror.close()
    except (DfwError, OSError) as error:
        return RunOutcome(run.name, "failed", " ".join(str(error).split()), time.monotonic() - began)
    finally:
        mirror.close()
        claim.release()
    if claim.lost:
        said = f"{place.url}: {claim.lost} has taken the run; this process has ended its own"
        return replace(outcome, status="taken", diagnosis=said)
    return replace(outcome, diagnosis=f"{outcome.diagnosis} {left}".strip()) if left else outcome


def _alone(folder: Path, run: Planned, retry: bool, began: float) -> RunOutcome:
    try:
        how = state_of_files(folder, run)
        if not is_left(how, retry):
            return RunOutcome(run.name, "taken" if how == "running" else how, diagnosis(folder, run))
        refusal(folder, run).unlink(missing_ok=True)
        with MODELS.at_hand():
            status, said = _make(folder, run, Call(run.command, began, folder.resolve().name)), ""
    except KeyboardInterrupt:
        status, said = "interrupted", ""
    except Exception as error:  # a run that crashes does not end the sweep
        status, said = ending(error)
        if not has_begun(folder, run):
            write_text(refusal(folder, run), said)
    return RunOutcome(run.name, status, " ".join(said.split()), time.monotonic() - began)


def _make(folder: Path, run: Planned, call: Call) -> str:
    path = directory_of(folder, run)
    if path is not None and has_begun(folder, run):
        staged = (path / STAGES).is_file()
        return (resume_stages(path, (), [], call) if staged else runner.resume(path, (), [], call=call)).status
    compositions = composed(run)
    single = compositions.get("")
    if single is None:
        return run_stages(compositions, [], call, folder / run.name).status
    return runner.run(single.config, single, [], folder / run.name, call=call).status


def composed(run: Planned, files: FileChecks | None = None) -> dict[str, Composition]:
    """Checks a planned run as `dfw run --dry-run` does. `files`: as `compose_stages`. Raises as that."""
    with TemporaryDirectory() as nowhere, chdir(run.folder if os.path.isdir(run.folder) else nowhere):  # no other file by chance
        return compose_stages(load_stages(run.config, run.overrides), files)
