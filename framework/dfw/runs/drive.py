"""One process's part of a run: trains what is left, makes what is missing, and says how it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from dfw.compose import Composition
from dfw.config.schedules import Progress
from dfw.interfaces.events import PhaseBegan, RunEnded, RunStarted, Status, StepEnded
from dfw.interfaces.exporter import Exporter
from dfw.interfaces.geometry import Geometry
from dfw.plugins.listeners import Listeners, plugin_files
from dfw.report import ReportData, write_report
from dfw.runs.attribution import naming
from dfw.runs.controls import Controls
from dfw.runs.directory import LogFile, RunDirectory
from dfw.runs.life import Life, ending
from dfw.runs.manifest import MANIFEST, copy_plugins, described
from dfw.runs.metrics import MetricsFile
from dfw.runs.outputs import export_assets, export_scene, preview, stage_links, turntable, turntable_path
from dfw.runs.remaining import Remaining
from dfw.runs.running_report import RunningReport
from dfw.runs.signals import Interrupted
from dfw.runs.trainer import StepRecord, Trainer

log = logging.getLogger("dfw.runs")

MEASURED = ("seconds", "wall", "peak_memory")
"""Keys of a row of metrics.jsonl that the machine decides: they differ between two runs of the same bits."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    directory: Path
    """Its run directory."""
    status: Status
    """`finished`, `interrupted`, `diverged` or `failed`."""
    artifacts: dict[str, Path] = field(default_factory=dict)
    """Name -> file that was made."""
    seconds: float = 0.0
    """Wall time, also of the processes that it was continued from."""
    signal: int | None = None
    """The signal that interrupted it."""


class Drive:
    """A run between its first step in this process and its last file."""

    def __init__(
        self,
        composition: Composition,
        exporters: Sequence[Exporter],
        trainer: Trainer,
        directory: RunDirectory,
        life: Life,
        listeners: Listeners,
        resumed: bool = False,
    ) -> None:
        self.composition = composition
        self.config = composition.config
        self.exporters = exporters
        self.trainer = trainer
        self.directory = directory
        self.life = life
        self.listeners = listeners
        self.resumed = resumed
        self.artifacts, self.made, self.facts = self._kept()

    def _kept(self) -> tuple[dict[str, Path], dict[str, list[str]], dict[str, str]]:
        """Returns what an earlier process has made after the last step: name -> file, output -> names, and facts of the mesh."""
        said = self.life.before
        kept: list[object] = [said.get(key) for key in ("artifacts", "made", "facts")]
        complete = said.get("step") == self.trainer.step == self.config.trainer.steps
        files, made, facts = (one if isinstance(one, dict) else {} for one in kept)
        if not (self.resumed and complete and all(isinstance(one, dict) for one in kept)):
            return {}, {}, {}
        paths = {name: self.directory.path / str(path) for name, path in files.items()}
        there = {name for name, path in paths.items() if path.exists()}
        made = {output: names for output, names in made.items() if isinstance(names, list) and there.issuperset(names)}
        return {name: paths[name] for names in made.values() for name in names}, made, facts

    def go(self, command: str, components: Mapping[str, Mapping[str, Any]]) -> RunResult:
        """Trains, exports and reports. `components`: as `component_facts` gives them, for the log.

        Raises what ended the run, except for the first signal, which `RunResult` names.
        """
        self.life.changed = True
        with LogFile(self.directory.log, command):
            self.listeners.work_in(self.directory.path)
            self.listeners.load_installed()
            self.listeners.warn()
            for sentence in described(components):
                log.info("%s", sentence)
            heard = {one.name: one.entry.facts() for one in self.listeners.active}
            manifest = self.directory.read_json(MANIFEST)
            plugins = copy_plugins(self.directory.path, plugin_files(), manifest.get("plugins", {}))
            self.directory.update_json(MANIFEST, {"listeners": heard, "plugins": plugins})
            failure: BaseException | None = None
            try:
                status = self._work(str(manifest.get("sweep", "")))
            except Interrupted as error:
                status, failure = "interrupted", error if self.life.stop.insisted else None
            except BaseException as error:  # SystemExit too: the status must be right
                status, failure = ending(error)[0], error
            return self._end(status, failure)

    def _work(self, sweep: str) -> Status:
        config, trainer = self.config, self.trainer
        self.listeners.run_started(
            RunStarted(self.directory.path, config, config.trainer.steps, self.composition.plugins(), trainer.step, sweep)
        )
        hint = f"; the traceback is in {self.directory.log}"
        with naming([*trainer.components, *self.exporters], lambda: f"at step {trainer.step}", hint):
            if not self._train():
                return "interrupted"
            with self.life.stop.at_once():
                self._make_outputs()
        return "finished"

    def _train(self) -> bool:
        """Rows of metrics, previews and checkpoints on the way. True when all steps are done."""
        trainer, settings, stop = self.trainer, self.config.trainer, self.life.stop
        shown: dict[int, Path] = {}
        begun = trainer.step
        left = Remaining(self.config, trainer.scene, bool(self.exporters))
        controls = Controls(trainer, self.life, left, self.exporters, self.directory)
        report = RunningReport(lambda: self._report("running", self.life.seconds()))

        def due() -> bool:
            """Called before each step: previews and checkpoints between steps; True to stop."""
            self.life.check()
            if stop.number is None and trainer.step % settings.preview_every == 0:
                shown[trainer.step] = self._preview(left)
                self._renew(report)
            if trainer.step and trainer.step % settings.checkpoint_every == 0 and trainer.step != begun:
                trainer.flush(on_step)  # so that each row before the checkpoint's step is in the file before it
                self._save(metrics)
            self.listeners.lend_scene(trainer.scene, controls)
            return stop.number is not None

        def on_step(record: StepRecord) -> None:
            metrics.add(self._row(record))
            numbers = {"grad_norm": record.grad_norm, "lr": record.lr} | record.numbers
            numbers |= {} if record.opacity is None else {"opacity": record.opacity}
            numbers |= {f"losses.{name}": value for name, value in record.losses.items()}
            numbers |= {f"schedules.{name}": value for name, value in record.schedules.items()}
            images = (shown.pop(record.step),) if record.step in shown else ()
            progress = Progress(record.step, settings.steps)
            self.listeners.step_ended(
                StepEnded(progress, record.loss, numbers, record.seconds, images, left.after(record.step, record.at))
            )

        self.life.times.begin("steps")
        if self.resumed:
            self._renew(report)  # it still says how the run stood when it was stopped
        with MetricsFile(self.directory.metrics, self.directory.again, self.directory.identity) as metrics:
            done = trainer.train(due, on_step)
            if trainer.step != begun or not self.resumed:
                self._save(metrics)
            if done:
                with stop.at_once():
                    self._preview(left)
                    self._renew(report)
        return done

    def _row(self, record: StepRecord) -> dict[str, Any]:
        """A row of metrics.jsonl. `wall`: seconds since the run began, without the time between its processes."""
        row = asdict(record)
        row |= row.pop("numbers")
        row["wall"] = round(sum(self.life.seconds().values()) - (time.monotonic() - row.pop("at")), 3)
        return {key: value for key, value in row.items() if value not in (None, {})}

    def _preview(self, left: Remaining) -> Path:
        with self.life.times("previews"), left.watching_a_preview():
            return preview(self.trainer.scene, self.directory)

    def _renew(self, report: RunningReport) -> None:
        with self.life.times("report"):
            report.renew()

    def _save(self, metrics: MetricsFile) -> None:
        with self.life.times("checkpoints"):
            metrics.sync()  # first, so that after a power cut no row before the checkpoint's step is missing
            self.trainer.save(self.directory.checkpoints)
        self._say()

    def _say(self, **facts: Any) -> None:
        self.life.say(step=self.trainer.step, steps=self.config.trainer.steps, **self._said(), **facts)

    def _said(self) -> dict[str, Any]:
        files = {name: str(path.relative_to(self.directory.path)) for name, path in self.artifacts.items()}
        return {"artifacts": files, "made": self.made, "facts": self.facts}

    def _make_outputs(self) -> None:
        """Makes what is missing of turntable, assets and mesh. Raises ExportError if the scene is empty."""
        scene, settings, folder = self.trainer.scene, self.config.export, self.directory.export

        def turn() -> dict[str, Path]:
            path = turntable_path(folder, settings)
            return {"turntable": turntable(scene, path, settings.turntable_frames, settings.turntable_width)}

        def mesh() -> dict[str, Path]:
            result = export_scene(scene, settings, self.exporters, folder, begin=self._begin)
            self.facts = dict(result.facts())
            return result.paths

        if settings.turntable_frames and not scene.flat:
            self._make("turntable", turn)
        if type(scene.geometry).export_assets is not Geometry.export_assets:
            self._make("assets", lambda: export_assets(scene, folder))
        if self.exporters and scene.geometry.has_shape:
            self._make("mesh", mesh)

    def _make(self, output: str, make: Callable[[], dict[str, Path]]) -> None:
        if output not in self.made:
            self._begin(output)
            made = make()
            with self.life.stop.held():
                self.artifacts |= made
                self.made[output] = list(made)
                self._say()

    def _begin(self, part: str) -> None:
        self.life.check()
        self.life.times.begin(part)
        self.listeners.phase_began(PhaseBegan(f"writing the {part}"))

    def _end(self, status: Status, failure: BaseException | None) -> RunResult:
        diagnosis = "" if failure is None else ending(failure)[1]
        if failure is not None and not isinstance(failure, KeyboardInterrupt):
            log.info("traceback", exc_info=failure)
        times = self.life.seconds()
        try:
            with self.life.stop.at_once() if status == "finished" else nullcontext():
                times = self.life.seconds()
                if not self.life.stop.insisted:  # then it is written all the same: the one that is there says `running`
                    self._begin("report")
                self.artifacts["report"] = self._report(status, times, diagnosis)
        except Interrupted as error:
            status, failure = "interrupted", failure or (error if self.life.stop.insisted else None)
        except Exception as error:
            status, diagnosis = (status, diagnosis) if failure else ending(error)
            failure = failure or error
        self.life.end(status, diagnosis, times, step=self.trainer.step, steps=self.config.trainer.steps, **self._said())
        seconds = sum(times.values())
        log.info("%s at step %d after %.1f s %s", status, self.trainer.step, seconds, diagnosis)
        self.listeners.run_ended(RunEnded(self.directory.path, status, seconds, self.artifacts, times))
        if failure is not None:
            raise failure
        return RunResult(self.directory.path, status, self.artifacts, seconds, self.life.stop.number)

    def _report(self, status: Status | Literal["running"], times: Mapping[str, float], diagnosis: str = "") -> Path:
        directory, config = self.directory, self.config
        data = ReportData(
            prompt=config.subject,
            seed=config.seed,
            status=status,
            seconds=sum(times.values()),
            times=times,
            diagnosis=diagnosis,
            artifacts=self.artifacts,
            links=stage_links(directory),
            metrics=directory.read_metrics(),
            previews=directory.previews(),
            resolved_config=directory.read_resolved(),
            manifest=directory.read_json(MANIFEST),
            facts=self.facts,
            going=Progress(self.trainer.step, config.trainer.steps) if status == "running" else None,
        )
        return write_report(directory.path, data)
