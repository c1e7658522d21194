"""Evaluates runs: shows each finished one as a protocol asks, scores it, and writes the record next to it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from dfw import __version__
from dfw.atomic import write_whole, writing
from dfw.config.merge import parse_overrides
from dfw.config.origins import Provenance
from dfw.config.settings import ComponentSettings
from dfw.errors import CheckpointError, ConfigError, DfwError
from dfw.evaluation.pictures import files, shown
from dfw.evaluation.protocols import Protocol
from dfw.evaluation.records import cost_of, place_of, read_result, write_result
from dfw.interfaces.checks import check_scores
from dfw.interfaces.scorer import Score, Scorer, Shown
from dfw.plugins.discovery import BUILT_IN
from dfw.plugins.fence import plugin_code
from dfw.plugins.parts import Chooser, Chosen
from dfw.plugins.registry import Registry
from dfw.runs.attribution import naming
from dfw.runs.checkpoint_folder import step_of
from dfw.runs.directory import RunDirectory
from dfw.runs.lock import RunLock
from dfw.runs.runner import reopen
from dfw.studies.methods import methods_of, settings_of
from dfw.studies.plan import without_runs
from dfw.studies.records import Record, is_at_work, record_of, runs_below


@dataclass(frozen=True)
class Asked:
    """A scorer that was asked for."""

    key: str
    """Its name in records: bare for the built-in ones."""
    chosen: Chosen

    @property
    def cls(self) -> type[Scorer]:
        """Its class."""
        return cast(type[Scorer], self.chosen.cls)

    def digest(self, others: Sequence[str], prompts: Sequence[str]) -> str:
        """Says what a score rests on besides the run: class, version, options, and the runs or prompts next to it."""
        told = [self.chosen.entry.qualified, self.chosen.entry.version, self.chosen.written()]
        told += [sorted(others) if self.cls.together else [], sorted(prompts) if self.cls.ranks else []]
        return f"sha256:{hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()}"


@dataclass(frozen=True)
class Outcome:
    """What became of one run."""

    path: Path
    state: str
    """`judged`, `kept` (it was judged before), `failed`, or the status of a run that is not finished."""
    note: str = ""
    """Why it was not judged."""
    result: Mapping[str, Any] | None = None
    """Its record."""
    method: str = ""
    """Its name, and the settings by which runs of one name, prompt and seed differ."""


def choose(registry: Registry, names: Sequence[str], changes: Sequence[str] = ()) -> list[Asked]:
    """Finds and checks scorers by name; without names, those that are `usual`. Constructs none.

    changes: `NAME.OPTION=VALUE`, as in an override. Raises PluginError and ConfigError.
    """
    wanted = list(dict.fromkeys(names)) or _usual(registry)
    tree, origins = parse_overrides(changes, {})
    unknown = next((name for name in tree if name not in wanted), None)
    if unknown is not None:
        raise ConfigError(
            f"--set {unknown}...: {unknown!r} is not among the scorers {', '.join(wanted)}; write NAME.OPTION=VALUE"
        )
    chooser = Chooser(registry, Provenance(origins))
    found = [chooser.choose((name,), "scorer", ComponentSettings(type=name, **tree.get(name, {}))) for name in wanted]
    chooser.finish()
    return [Asked(one.entry.name if one.entry.distribution == BUILT_IN else one.entry.qualified, one) for one in found]


def _usual(registry: Registry) -> list[str]:
    entries = [entry for entry in registry.entries("scorer") if entry.distribution == BUILT_IN]
    found = [entry for entry in entries if cast(type[Scorer], registry.load(entry)).usual]
    return [entry.name if len(registry.matches("scorer", entry.name)) == 1 else entry.qualified for entry in found]


@dataclass
class _Run:
    """A finished run, and what is known of it."""

    path: Path
    place: RunDirectory
    """Of a run with stages, its last stage."""
    record: Record
    step: int
    method: str = ""
    """As `methods_of` says, among the runs that are evaluated together."""
    before: dict[str, Any] = field(default_factory=dict)
    """Its record, if that is of the same scene and size."""
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    device: str = ""

    @property
    def prompt(self) -> str:
        """What was asked for."""
        return self.record.subject

    @property
    def seed(self) -> int:
        """The run's; 0 where that is not known."""
        return self.record.seed or 0

    @property
    def identity(self) -> str:
        """What tells its scene from others. A repetition of the same run has the same."""
        return f"{self.place.identity} {self.step}"


def runs_in(paths: Sequence[Path]) -> list[Path]:
    """Returns the runs that `paths` name: a run, or a folder with runs in it or below, as a sweep's.

    Raises ConfigError where there is none, and CheckpointError for one that is named and damaged.
    """
    found: dict[Path, None] = {}
    for path in paths:
        here = runs_below(path)
        if not here:
            raise ConfigError(without_runs(path))
        found |= dict.fromkeys(here)
    return list(found)


def evaluate(
    paths: Sequence[Path],
    protocol: Protocol,
    asked: Sequence[Asked],
    width: int | None = None,
    device: str | None = None,
    again: bool = False,
) -> Iterator[Outcome]:
    """Gives what became of each run, as soon as it is known; those that are not finished first.

    A score that is there, of the same scene, size, options and companions, is not made again, unless `again`. width: pixels in
    place of the protocol's. device: as for `dfw.open`. Raises PluginError and GuidanceError for a scorer that breaks, or whose
    model is not there.
    """
    side = width or protocol.width
    runs: list[_Run] = []
    for path in paths:
        try:
            found = _look(path)
        except DfwError as error:
            yield Outcome(path, "failed", str(error))
            continue
        if isinstance(found, Outcome):
            yield found
            continue
        known = read_result(found.place.path, protocol.name)
        if known is not None and not again and _is_of(known, found, side):
            found.before, found.scores = known, dict(known["scores"])
        runs.append(found)
    for run, method in zip(runs, methods_of([(one.record, settings_of(one.place)) for one in runs]), strict=True):
        run.method = method
    prompts = tuple(dict.fromkeys(run.prompt for run in runs if run.prompt))
    session = _Session(protocol, list(asked), prompts, width, device)
    for group in _groups(runs, any(one.cls.together for one in asked)):
        yield from session.go(group)


def _look(path: Path) -> _Run | Outcome:
    """Returns a run that can be judged, or why it cannot. Raises CheckpointError for a damaged one."""
    place = RunDirectory.find(path)
    place.require_settings()
    record = record_of(path)
    if is_at_work(path):
        return Outcome(path, "running", "a process works on it")
    if record.status != "finished":
        return Outcome(path, record.status or "not begun", record.diagnosis)
    return _Run(path, place, record, step_of(place.newest_checkpoint()))


def _is_of(result: Mapping[str, Any], run: _Run, side: int) -> bool:
    """Returns whether a record is of this scene, at this size."""
    told = result["run"]
    return (told.get("step"), told.get("identity"), result["size"]) == (run.step, run.place.identity, [side, side])


def _groups(runs: Sequence[_Run], together: bool) -> list[list[_Run]]:
    """Returns runs of one method and prompt that differ in their seed, if scorers want them; else each run alone."""
    if not together:
        return [[run] for run in runs]
    found: dict[tuple[str, str], list[_Run]] = {}
    for run in runs:
        found.setdefault((run.method, run.prompt), []).append(run)
    return list(found.values())


@dataclass
class _Session:
    """Judges group after group. A scorer is built when the first run needs it."""

    protocol: Protocol
    asked: list[Asked]
    prompts: tuple[str, ...]
    width: int | None
    device: str | None
    built: dict[str, Scorer] = field(default_factory=dict)

    def go(self, group: list[_Run]) -> Iterator[Outcome]:
        """Judges a group, and gives what became of each of its runs."""
        lacking = {run.path: self._lacking(run, group) for run in group}
        together = [one for one in self.asked if one.cls.together and any(one in found for found in lacking.values())]
        views: dict[Path, Shown] = {}
        outcomes: list[Outcome] = []
        for run in group:
            if run.before and not lacking[run.path] and not together:
                outcomes.append(Outcome(run.path, "kept", result=run.before, method=run.method))
                continue
            started = time.monotonic()
            try:
                one = self._shown(run)
            except DfwError as error:
                outcomes.append(Outcome(run.path, "failed", str(error)))
                continue
            for scorer in lacking[run.path]:
                if not scorer.cls.together:
                    self._judge(scorer, [run], [one], group)
            run.seconds += time.monotonic() - started
            if together:
                views[run.path] = one
            else:
                yield self._store(run, one)
        shown_runs = [run for run in group if run.path in views]
        for scorer in together:
            started = time.monotonic()
            self._judge(scorer, shown_runs, [views[run.path] for run in shown_runs], group)
            for run in shown_runs:
                run.seconds += (time.monotonic() - started) / len(shown_runs)
        for run in shown_runs:
            yield self._store(run, views[run.path])
        yield from outcomes

    def _lacking(self, run: _Run, group: Sequence[_Run]) -> list[Asked]:
        return [one for one in self.asked if run.scores.get(one.key, {}).get("asked") != self._digest(one, group)]

    def _digest(self, scorer: Asked, group: Sequence[_Run]) -> str:
        return scorer.digest([run.identity for run in group], self.prompts)

    def _shown(self, run: _Run) -> Shown:
        _, scene = reopen(run.place, self.device)
        run.device = str(scene.device)
        with naming(scene.components, lambda: "while it was shown"):
            views = shown(scene, self.protocol, self.width)
        return replace(views, prompts=self.prompts, name=run.record.name, seed=run.seed)

    def _judge(self, asked: Asked, runs: Sequence[_Run], views: Sequence[Shown], group: Sequence[_Run]) -> None:
        """Adds a scorer's scores to those of the runs."""
        if not runs:
            return
        if asked.key not in self.built:
            self.built[asked.key] = cast(Scorer, asked.chosen.construct())
        scorer = self.built[asked.key]
        if isinstance(scorer, nn.Module):
            scorer.to(runs[0].device).eval()
        with plugin_code(asked.chosen.who, "failed while it scored"), torch.no_grad():
            found = scorer.score(list(views))
        check_scores(scorer, found, views)
        for run, one in zip(runs, found, strict=True):
            options = asked.chosen.config.model_dump(mode="json")
            run.scores[asked.key] = self._written(scorer, one) | {"options": options, "asked": self._digest(asked, group)}

    def _written(self, scorer: Scorer, score: Score) -> dict[str, Any]:
        value = score.value
        if value is None and score.per_view is not None:
            value = self.protocol.pooled(score.per_view)
        return {
            "value": value,
            "unit": scorer.unit,
            "better": scorer.better,
            "per_view": None if score.per_view is None else list(score.per_view),
            "details": dict(score.details),
        }

    def _store(self, run: _Run, views: Shown) -> Outcome:
        """Writes record and pictures, if the run is as it was and nobody works on it."""
        result = {
            "protocol": self.protocol.name,
            "run": {
                "prompt": run.prompt,
                "seed": run.seed,
                "name": run.record.name,
                "dfw version": __version__,
                "step": run.step,
                "identity": run.place.identity,
            },
            "views": len(views),
            "size": [views.cameras.height, views.cameras.width],
            "scores": run.scores,
            "cost": cost_of(run.path),
            "evaluated": {
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(run.seconds, 2),
                "device": run.device,
            },
        }
        pictures = {} if run.before else files(views, self.protocol)
        try:
            with ExitStack() as stack:
                for place in dict.fromkeys((run.path.absolute(), run.place.path)):
                    lock = RunLock(place)  # for the moment of writing: while it is held, the run looks as if it were running
                    stack.callback(lock.release)
                    lock.take()
                if step_of(run.place.newest_checkpoint()) != run.step:
                    raise CheckpointError(f"{run.path}: went on meanwhile; evaluate it again when it is finished")
                _write_pictures(place_of(run.place.path, self.protocol.name), pictures)
                write_result(run.place.path, result)
        except DfwError as error:
            return Outcome(run.path, "failed", str(error), result, run.method)
        return Outcome(run.path, "judged", result=result, method=run.method)


def _write_pictures(folder: Path, pictures: Mapping[str, bytes]) -> None:
    with writing(folder, ConfigError, otherwise="only who may write a run may evaluate it"):
        for name, data in pictures.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(folder / name, data)
