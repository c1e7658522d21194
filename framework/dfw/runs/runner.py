"""What `dfw run` does, end to end: compose, start, train, export, report. Also resume, and the verbs that open a finished run."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from dfw.atomic import unused, write_text, writing
from dfw.compose import Composition, Parts, compose
from dfw.config.load import load_config, to_yaml
from dfw.config.schedules import Progress
from dfw.config.settings import RunConfig
from dfw.errors import CheckpointError, DfwError, DivergedError
from dfw.export.files import STEM
from dfw.export.formats import exporter_for, is_file
from dfw.export.pictures import check_turntable
from dfw.interfaces.events import RunEnded, RunStarted, Status, StepEnded
from dfw.interfaces.exporter import Exporter
from dfw.interfaces.geometry import DensityField, Surface
from dfw.plugins.listeners import Listeners, load_listeners
from dfw.plugins.registry import registry
from dfw.runs.attribution import naming
from dfw.runs.console import ConsoleListener
from dfw.runs.directory import LogFile, RunDirectory, versions
from dfw.runs.manifest import changed_facts, component_facts, described
from dfw.runs.metrics import MetricsFile
from dfw.runs.outputs import export_assets, export_scene, exporters_of, finish, preview, turntable, turntable_path
from dfw.runs.scene import Scene, open_scene
from dfw.runs.start import Start, find_start
from dfw.runs.trainer import StepRecord, Trainer, initialise, leave, pick_device
from dfw.runs.wide_views import wide_views

log = logging.getLogger("dfw.runs")


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
    """Wall time of this process."""


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that the step ends and a checkpoint is written; a second one stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def handle(_signal: int, _frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, previous)


def run(
    config: RunConfig,
    composition: Composition | None = None,
    listeners: Sequence[object] | None = None,
    path: Path | None = None,
    stages: Mapping[str, Path] | None = None,
) -> RunResult:
    """Makes the asset a configuration describes, in a new run directory.

    `listeners` replaces the console; installed listeners are always there. `path`: where the directory is made, by default a new
    one under `output`. `stages`: name -> directory of the stages before this one. Raises DfwError before anything is written
    when the configuration or a model is at fault, DivergedError when the scene diverged.
    """
    composition = composition or compose(config, registry())
    config = composition.resolved(defaults=False)  # its paths are absolute, so config.yaml means the same from anywhere
    pick_device(config.device)
    start = find_start(config.start, dict(stages or {}))
    exporters = exporters_of(composition)
    resolved = to_yaml(composition.resolved())
    parts = composition.build()
    trainer = make_trainer(config, parts, start)
    components = component_facts(composition, [*parts.all(), *exporters])
    directory = RunDirectory.create(config.output, config.name, config.prompt, config.seed, path)
    directory.write_config("config.yaml", to_yaml(config))
    directory.write_config("resolved.yaml", resolved)
    manifest = {
        "versions": versions(),
        "components": components,
        "device": str(trainer.device),
        "look": asdict(trainer.scene.look),
    }
    directory.write_json("manifest.json", manifest | ({} if start is None else {"start": start.facts()}))
    for sentence in wide_views(composition, {name: model.resolution for name, model in parts.guidances.items()}):
        log.warning("%s", sentence)
    return _drive(composition, exporters, trainer, directory, listeners, components)


def resume(path: Path, overrides: Sequence[str] = (), listeners: Sequence[object] | None = None) -> RunResult:
    """Continues a run from its newest checkpoint, to the same bits as if it had not stopped.

    `overrides` change its configuration (`trainer.steps=1000` makes it longer); what changed goes to the manifest and to
    resolved.yaml. Raises CheckpointError for a run that is finished, and ConfigError for overrides that do not fit.
    """
    directory = RunDirectory.open(path)
    config = load_config(directory.resolved, overrides)
    composition = compose(config, registry())
    directory.sweep()
    checkpoint = directory.newest_checkpoint()
    pick_device(config.device)
    exporters = exporters_of(composition)
    parts = composition.build()
    trainer = make_trainer(config, parts, resumed=True)
    trainer.restore(checkpoint)
    if trainer.step >= config.trainer.steps and directory.report.is_file():
        raise CheckpointError(
            f"{path}: already finished its {config.trainer.steps} steps; make it longer with `dfw run --resume {path} "
            f"trainer.steps={2 * config.trainer.steps}`, or start a new run from it with `dfw run CONFIG start.run={path}`"
        )
    components = component_facts(composition, [*parts.all(), *exporters])
    recorded = directory.read_json("manifest.json").get("components", {})
    for sentence in [*changed_versions(recorded, composition), *changed_facts(recorded, components)]:
        log.warning("%s", sentence)
    if overrides:
        _record_changes(directory, composition, trainer.step, overrides)
    directory.truncate_metrics(trainer.step)
    return _drive(composition, exporters, trainer, directory, listeners, components)


def _record_changes(directory: RunDirectory, composition: Composition, step: int, overrides: Sequence[str]) -> None:
    """Writes down what a run goes on with, and keeps the configuration that it had."""
    kept = unused(directory.path / "resolved-before.yaml")
    with writing(kept, CheckpointError, directory.again):
        write_text(kept, directory.resolved.read_text(encoding="utf-8"))
    directory.write_config("resolved.yaml", to_yaml(composition.resolved()))
    changes = [*directory.read_json("manifest.json").get("changes", ())]
    changes.append({"step": step, "overrides": list(overrides), "before": kept.name})
    directory.update_json("manifest.json", {"changes": changes})


def changed_versions(recorded: Mapping[str, Mapping[str, str]], composition: Composition) -> list[str]:
    """A sentence for each component whose distribution has another version than the `recorded` origins of the manifest say."""
    sentences = []
    for key, now in composition.origins().items():
        then = recorded.get(key, {})
        if then.get("distribution") == now.distribution and then.get("version", now.version) != now.version:
            sentences.append(
                f"{key}: the run was made with {now.qualified} of {now.distribution} {then['version']} and goes on with "
                f"{now.version}; install {now.distribution}=={then['version']} for the same bits"
            )
    return sentences


def reopen(directory: RunDirectory, device: str | None = None) -> tuple[Composition, Scene]:
    """The composition and the scene of an existing run, at its newest checkpoint. Builds neither losses nor guidance."""
    config = load_config(directory.resolved)
    composition = compose(config, registry())
    return composition, open_scene(directory, composition, pick_device(device or _present(config.device)))


def _present(device: str) -> str:
    """The run's device where this machine has it; else the best that it has, since looking at a scene needs no GPU."""
    try:
        pick_device(device)
    except DfwError:
        return "auto"
    return device


def export(path: Path, composition: Composition | None = None, out: Path | None = None) -> dict[str, Path]:
    """Writes mesh and assets of a run's newest checkpoint into `out` (default: a new folder in the run's): name -> file.

    `out` may also be a file, whose ending then chooses the one format; assets are left out. `composition` holds other export
    settings than the run's own. A geometry that does not become a mesh has its own assets only; raises ExportError where there
    are none, and where no format is chosen.
    """
    directory = RunDirectory.open(path)
    chosen = composition or compose(load_config(directory.resolved), registry())
    single = out if out is not None and is_file(out) else None
    exporters = chosen.exporters() if single is None else [exporter_for(single, chosen)]
    _, scene = reopen(directory)
    folder, stem = (out or unused(directory.export), STEM) if single is None else (single.parent, single.stem)
    with naming([*scene.components, *exporters], lambda: "while it was exported"):
        made = {} if single else export_assets(scene, folder)
        if made and not (exporters and isinstance(scene.geometry, DensityField | Surface)):
            return made
        return made | export_scene(scene, chosen.config.export, exporters, folder, stem).paths


def render(
    path: Path, width: int | None = None, frames: int | None = None, elevation: float | None = None, out: Path | None = None
) -> Path:
    """Writes a turntable of a run's newest checkpoint. Keeps what exists, and gives the new one the next free number.

    out: a file whose ending is a turntable's, or a folder for PNG frames. Raises ExportError for other endings.
    """
    directory = RunDirectory.open(path)
    settings = load_config(directory.resolved).export
    wanted = out or turntable_path(directory.export, settings)
    check_turntable(wanted)
    _, scene = reopen(directory)
    count = frames or max(settings.turntable_frames, 1)
    with naming(scene.components, lambda: "while it was rendered"):
        return turntable(scene, wanted, count, width or settings.turntable_width, elevation)


def make_trainer(config: RunConfig, parts: Parts, start: Start | None = None, resumed: bool = False) -> Trainer:
    """A trainer at step 0: with initial values, with what `start` gives, or (`resumed`) before a checkpoint is restored."""
    with naming(parts.all(), lambda: "while the run was set up"):
        prepare = leave if resumed else initialise if start is None else start.prepare
        trainer = Trainer(config, parts, pick_device(config.device), prepare)
        if start is not None:
            start.take_optimizer(trainer)
        return trainer


def _drive(
    composition: Composition,
    exporters: Sequence[Exporter],
    trainer: Trainer,
    directory: RunDirectory,
    extra: Sequence[object] | None,
    components: Mapping[str, Mapping[str, Any]],
) -> RunResult:
    config = composition.config
    started = time.monotonic()
    artifacts: dict[str, Path] = {}
    status: Status = "failed"
    diagnosis = ""

    def end(diagnosis: str = "") -> dict[str, Path]:
        return finish(config, trainer.scene, exporters, directory, status, time.monotonic() - started, diagnosis)

    with LogFile(directory.log):
        listeners = load_listeners([ConsoleListener()] if extra is None else extra, directory.path)
        listeners.warn()
        for sentence in described(components):
            log.info("%s", sentence)
        directory.update_json("manifest.json", {"listeners": {one.name: one.entry.facts() for one in listeners.active}})
        try:
            listeners.run_started(RunStarted(directory.path, config, config.trainer.steps, composition.plugins(), trainer.step))
            with naming(
                [*trainer.components, *exporters], lambda: f"at step {trainer.step}", f"; the traceback is in {directory.log}"
            ):
                done = _train(config, trainer, directory, listeners)
                status = "finished" if done else "interrupted"
                artifacts = end()
        except DivergedError as error:
            status, diagnosis = "diverged", str(error)
            artifacts = end(diagnosis)
            raise
        except DfwError as error:
            diagnosis = str(error)
            log.info("traceback", exc_info=error)
            raise
        finally:
            seconds = time.monotonic() - started
            stamp = {"status": status, "step": trainer.step, "steps": config.trainer.steps, "seconds": round(seconds, 2)}
            files = {name: str(made.relative_to(directory.path)) for name, made in artifacts.items()}
            directory.write_json("status.json", stamp | {"diagnosis": diagnosis, "artifacts": files})
            log.info("%s at step %d after %.1f s %s", status, trainer.step, seconds, diagnosis)
            listeners.run_ended(RunEnded(directory.path, status, seconds, artifacts))
    return RunResult(directory.path, status, artifacts, seconds)


def _train(config: RunConfig, trainer: Trainer, directory: RunDirectory, listeners: Listeners) -> bool:
    """The training part: rows of metrics, previews and checkpoints on the way. True when all steps are done."""
    settings = config.trainer
    shown: dict[int, Path] = {}

    def due() -> bool:
        """Called before each step: previews and checkpoints between steps; True to stop."""
        if asked.is_set():
            return True
        if trainer.step % settings.preview_every == 0:
            shown[trainer.step] = preview(trainer.scene, directory)
        if trainer.step and trainer.step % settings.checkpoint_every == 0 and trainer.step != begun:
            save()
        listeners.lend_scene(trainer.scene)
        return False

    def save() -> None:
        metrics.sync()  # first, so that after a power cut no row before the checkpoint's step is missing
        trainer.save(directory.checkpoints)

    with MetricsFile(directory.metrics, directory.again) as metrics, interruptible() as asked:

        def on_step(record: StepRecord) -> None:
            row = asdict(record)
            row |= row.pop("numbers")
            metrics.add({key: value for key, value in row.items() if value is not None})
            progress = Progress(record.step, settings.steps)
            numbers = {"grad_norm": record.grad_norm, "lr": record.lr} | record.numbers
            numbers |= {} if record.opacity is None else {"opacity": record.opacity}
            numbers |= {f"losses.{name}": value for name, value in record.losses.items()}
            images = (shown.pop(record.step),) if record.step in shown else ()
            listeners.step_ended(StepEnded(progress, record.loss, numbers, record.seconds, images))

        begun = trainer.step
        done = trainer.train(due, on_step)
        save()
    if done:
        preview(trainer.scene, directory)
    return done
