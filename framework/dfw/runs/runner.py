"""What `dfw run` does, end to end: compose, train, look, export, report. Also resume, and the verbs that open a finished run."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

from dfw.compose import Composition, Parts, compose
from dfw.config.load import load_config, to_yaml
from dfw.config.schedules import Progress
from dfw.config.settings import ExportSettings, RunConfig
from dfw.errors import CheckpointError, DfwError, DivergedError
from dfw.interfaces.events import RunEnded, RunStarted, Status, StepEnded
from dfw.interfaces.kinds import DensityField
from dfw.plugins.listeners import Listeners, load_listeners
from dfw.plugins.registry import registry
from dfw.runs.attribution import naming
from dfw.runs.checkpoint import newest_checkpoint
from dfw.runs.console import ConsoleListener
from dfw.runs.directory import LogFile, RunDirectory, unused, versions, write_text
from dfw.runs.outputs import ELEVATION, export_assets, export_scene, finish, preview, turntable
from dfw.runs.trainer import StepRecord, Trainer, pick_device

log = logging.getLogger("dfw.runs.runner")


@dataclass(frozen=True)
class RunResult:
    """How a run ended: its directory, `status`, what was made (name -> path), and seconds of this process."""

    directory: Path
    status: Status
    artifacts: dict[str, Path] = field(default_factory=dict)
    seconds: float = 0.0


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


def run(config: RunConfig, composition: Composition | None = None, listeners: Sequence[object] | None = None) -> RunResult:
    """Makes the asset a configuration describes, in a new run directory.

    `listeners` replaces the console; installed listeners are always there. Raises DfwError before anything is written when
    the configuration or a model is at fault, DivergedError when the scene left the road.
    """
    composition = composition or compose(config, registry())
    pick_device(config.device)
    resolved = to_yaml(composition.resolved())
    parts = composition.build()
    trainer = make_trainer(config, parts)
    directory = RunDirectory.create(config.output, config.name, config.prompt, config.seed)
    write_text(directory.path / "config.yaml", to_yaml(config))
    write_text(directory.resolved, resolved)
    origins = {key: asdict(origin) for key, origin in composition.origins().items()}
    directory.write_json("manifest.json", {"versions": versions(), "components": origins, "device": str(trainer.device)})
    return _drive(composition, trainer, directory, listeners)


def resume(path: Path, listeners: Sequence[object] | None = None) -> RunResult:
    """Continues a run from its newest checkpoint, to the same bits as if it had not stopped."""
    directory = RunDirectory.open(path)
    composition, trainer = reopen(directory)
    config = composition.config
    if trainer.step >= config.trainer.steps and directory.report.is_file():
        raise CheckpointError(f"{path}: already finished its {config.trainer.steps} steps; start a new run with `dfw run`")
    for sentence in changed_versions(directory.read_json("manifest.json").get("components", {}), composition):
        log.warning("%s", sentence)
    directory.truncate_metrics(trainer.step)
    return _drive(composition, trainer, directory, listeners)


def changed_versions(recorded: Mapping[str, Mapping[str, str]], composition: Composition) -> list[str]:
    """A sentence for each component whose distribution has another version than the `recorded` origins of the manifest say."""
    sentences = []
    for key, now in composition.origins().items():
        then = recorded.get(key, {})
        if then.get("distribution") == now.distribution and then.get("version", now.version) != now.version:
            sentences.append(
                f"{key}: the run was made with {now.name} of {now.distribution} {then['version']} and goes on with "
                f"{now.version}; install {now.distribution}=={then['version']} for the same bits"
            )
    return sentences


def reopen(directory: RunDirectory) -> tuple[Composition, Trainer]:
    """The composition and the trainer of an existing run, at its newest checkpoint."""
    checkpoint = newest_checkpoint(directory.checkpoints)
    composition = compose(load_config(directory.resolved), registry())
    trainer = make_trainer(composition.config, composition.build())
    trainer.restore(checkpoint)
    return composition, trainer


def export(path: Path, settings: ExportSettings | None = None, out: Path | None = None) -> dict[str, Path]:
    """Writes mesh and assets of a run's newest checkpoint into `out` (default: a new folder in the run's): name -> file.

    A geometry that is no density field has its own assets only; ExportError where there are none.
    """
    directory = RunDirectory.open(path)
    composition, trainer = reopen(directory)
    folder = out or unused(directory.export)
    with naming(trainer.components, lambda: "while it was exported"):
        made = export_assets(trainer, folder)
        if made and not isinstance(trainer.geometry, DensityField):
            return made
        return made | export_scene(trainer, settings or composition.config.export, folder).paths


def render(
    path: Path, width: int | None = None, frames: int | None = None, elevation: float | None = None, out: Path | None = None
) -> Path:
    """Writes a turntable of a run's newest checkpoint; a file that exists is kept, the new one gets the next free number."""
    directory = RunDirectory.open(path)
    composition, trainer = reopen(directory)
    settings = composition.config.export
    target = unused(out or directory.export / "turntable.webp")
    count = frames or max(settings.turntable_frames, 1)
    with naming(trainer.components, lambda: "while it was rendered"):
        return turntable(trainer, target, count, width or settings.turntable_width, ELEVATION if elevation is None else elevation)


def make_trainer(config: RunConfig, parts: Parts) -> Trainer:
    """A trainer at step 0."""
    with naming(parts.all(), lambda: "while the run was set up"):
        return Trainer(config, parts.geometry, parts.renderer, parts.guidance, parts.losses, pick_device(config.device))


def _drive(composition: Composition, trainer: Trainer, directory: RunDirectory, extra: Sequence[object] | None) -> RunResult:
    config = composition.config
    started = time.monotonic()
    artifacts: dict[str, Path] = {}
    status: Status = "failed"
    diagnosis = ""
    with LogFile(directory.log):
        listeners = load_listeners([ConsoleListener()] if extra is None else extra)
        listeners.warn()
        directory.update_json("manifest.json", {"listeners": {one.name: asdict(one.origin) for one in listeners.active}})
        try:
            listeners.run_started(RunStarted(directory.path, config, config.trainer.steps, composition.plugins(), trainer.step))
            with naming(trainer.components, lambda: f"at step {trainer.step}", f"; the traceback is in {directory.log}"):
                done = _train(config, trainer, directory, listeners)
                status = "finished" if done else "interrupted"
                artifacts = finish(config, trainer, directory, status, time.monotonic() - started)
        except DivergedError as error:
            status, diagnosis = "diverged", str(error)
            artifacts = finish(config, trainer, directory, status, time.monotonic() - started, diagnosis)
            raise
        except DfwError as error:
            diagnosis = str(error)
            log.info("traceback", exc_info=error)
            raise
        finally:
            seconds = time.monotonic() - started
            stamp = {"status": status, "step": trainer.step, "steps": config.trainer.steps, "seconds": round(seconds, 2)}
            directory.write_json("status.json", stamp | {"diagnosis": diagnosis})
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
            shown[trainer.step] = preview(trainer, directory)
        if trainer.step and trainer.step % settings.checkpoint_every == 0 and trainer.step != begun:
            trainer.save(directory.checkpoints)
        return False

    with directory.metrics.open("a", encoding="utf-8") as metrics, interruptible() as asked:

        def on_step(record: StepRecord) -> None:
            metrics.write(json.dumps(asdict(record)) + "\n")
            metrics.flush()
            progress = Progress(record.step, settings.steps)
            numbers = {"opacity": record.opacity, "grad_norm": record.grad_norm, "lr": record.lr}
            numbers |= {f"losses.{name}": value for name, value in record.losses.items()}
            images = (shown.pop(record.step),) if record.step in shown else ()
            listeners.step_ended(StepEnded(progress, record.loss, numbers, record.seconds, images))

        begun = trainer.step
        done = trainer.train(due, on_step)
        trainer.save(directory.checkpoints)
    if done:
        preview(trainer, directory)
    return done
