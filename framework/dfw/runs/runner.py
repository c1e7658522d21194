"""What `dfw run` does, end to end: compose, start, train, export, report. Also resume, and the verbs that open a finished run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dfw.atomic import require_writable, unused, write_text, writing
from dfw.compose import Composition, compose
from dfw.config.load import load_config, to_yaml
from dfw.config.settings import RunConfig
from dfw.config.yaml_text import read_yaml
from dfw.errors import CheckpointError, ConfigError, DfwError, PluginError
from dfw.export.files import STEM
from dfw.export.formats import exporter_for, is_file
from dfw.export.pictures import check_turntable
from dfw.interfaces.events import PhaseBegan
from dfw.interfaces.exporter import Exporter
from dfw.plugins.listeners import AT_WORK, Listeners, own_listeners, plugin_files
from dfw.plugins.registry import registry
from dfw.ranks.processes import party
from dfw.runs.attribution import naming
from dfw.runs.call import Call
from dfw.runs.checkpoint_folder import list_checkpoints
from dfw.runs.console import ConsoleListener
from dfw.runs.directory import RunDirectory, check_output, earlier_stages
from dfw.runs.drive import Drive, RunResult
from dfw.runs.kept_models import build
from dfw.runs.leading import in_all_processes
from dfw.runs.life import Life
from dfw.runs.manifest import (
    MANIFEST,
    changed_facts,
    changed_machine,
    changed_plugins,
    changed_versions,
    component_facts,
    machine,
    missing_plugins,
    request,
    versions,
)
from dfw.runs.outputs import export_all, export_scene, exporters_of, turntable, turntable_path
from dfw.runs.scene import Scene, open_scene
from dfw.runs.signals import stopping
from dfw.runs.start import Start, find_start, make_trainer
from dfw.runs.threads import as_before
from dfw.runs.times import Times
from dfw.runs.trainer import Trainer, pick_device
from dfw.runs.wide_views import wide_views

log = logging.getLogger("dfw.runs")


@in_all_processes
def run(
    config: RunConfig,
    composition: Composition | None = None,
    listeners: Sequence[object] | None = None,
    path: Path | None = None,
    stages: Mapping[str, Path] | None = None,
    call: Call | None = None,
) -> RunResult:
    """Makes the asset a configuration describes, in a new run directory.

    `listeners` replaces the console; installed listeners are always there. `path`: where the directory is made, by default a new
    one under `output`. `stages`: name -> directory of the stages before this one. `call`: what the manifest says of how this
    process was asked. Raises DfwError before anything is written when the configuration or a model is at fault, DivergedError
    when the scene diverged, and Interrupted when a signal came before there was a run, or a second one.
    """
    call = call or Call()
    times, heard = Times(call.began), own_listeners([ConsoleListener()] if listeners is None else listeners)
    with as_before(), stopping() as stop:
        with stop.at_once():
            composition = composition or compose(config, registry())
            config = composition.resolved(defaults=False)  # paths are absolute, so config.yaml means the same from anywhere
            pick_device(party().placed(config.device))
            if path is None:
                check_output(config.output)
            require_writable(path or Path(config.output), f"output={config.output}", "name a folder that you may write to")
            start = find_start(composition, dict(stages or {}))
            exporters = exporters_of(composition)
            given, resolved = to_yaml(config), to_yaml(composition.resolved())  # options that no file can hold end it here
            _announce(composition, stages or {})
            trainer, components = _build(config, composition, exporters, start, heard)
            directory = RunDirectory.create(config.output, config.name, config.subject, config.seed, path)
        with Life(directory.path, times, stop) as life:
            life.begin(step=0, steps=config.trainer.steps)
            directory.write_config("config.yaml", given)
            manifest = request(call, config.seed) | machine(trainer.device) | {"versions": versions(), "components": components}
            manifest |= {"look": asdict(trainer.scene.look)} | ({} if start is None else {"start": start.facts()})
            directory.write_json(MANIFEST, manifest)
            directory.write_config("resolved.yaml", resolved)  # last: a run is a folder that has this file
            return Drive(composition, exporters, trainer, directory, life, heard).go(call.command, components)


@in_all_processes
def resume(
    path: Path,
    overrides: Sequence[str] = (),
    listeners: Sequence[object] | None = None,
    stages: Mapping[str, Path] | None = None,
    call: Call | None = None,
) -> RunResult:
    """Continues a run from its newest checkpoint, to the same bits as if it had not stopped, and makes the files it lacks.

    A run that was stopped before its first checkpoint begins again. `overrides` change the configuration (`trainer.steps=1000`
    makes it longer); what changed goes to the manifest and to resolved.yaml. The other arguments are those of `run`. Raises
    CheckpointError for a run that is finished or that another process works on, and ConfigError for overrides that do not fit.
    """
    call = call or Call()
    times, heard = Times(call.began), own_listeners([ConsoleListener()] if listeners is None else listeners)
    directory = RunDirectory.open(path)
    with as_before(), stopping() as stop, Life(directory.path, times, stop) as life:
        with stop.at_once():
            config = load_config(directory.resolved, overrides)
            with _remembering(directory):
                composition = compose(config, registry())
            directory.sweep()
            if life.complete and life.before.get("step", 0) >= config.trainer.steps:
                (directory.path / AT_WORK).unlink(missing_ok=True)  # its process was killed after all was made
                longer = f"`dfw run --resume {path} trainer.steps={2 * config.trainer.steps}`"
                raise CheckpointError(
                    f"{path}: already finished its {config.trainer.steps} steps; make it longer with {longer}, or start a new "
                    f"run from it with `dfw run CONFIG start.run={path}`"
                )
            pick_device(party().placed(config.device))
            life.begin(**{key: life.before[key] for key in KEPT if key in life.before})
            exporters = exporters_of(composition)
            resumed = bool(list_checkpoints(directory.checkpoints))
            start = None if resumed else find_start(composition, dict(stages or earlier_stages(directory.path)))
            checkpoint = directory.newest_checkpoint() if resumed else None
            _announce(composition, stages or earlier_stages(directory.path), resumed, checkpoint)
            trainer, components = _build(config, composition, exporters, start, heard, resumed)
            if checkpoint is not None:
                trainer.restore(checkpoint)
                if trainer.step > config.trainer.steps:
                    raise ConfigError(
                        f"trainer.steps={config.trainer.steps}: {path} is at step {trainer.step} already; write a larger number"
                    )
            else:
                trainer.identity = directory.identity
                log.info("there is no checkpoint yet: the run begins again at step 0")
        manifest = directory.read_json(MANIFEST)
        recorded = manifest.get("components", {})
        for sentence in (
            *changed_versions(recorded, composition),
            *changed_facts(recorded, components),
            *changed_machine(manifest, trainer.device),
        ):
            log.warning("%s", sentence)
        if overrides:
            _record_changes(directory, composition, trainer.step, overrides)
        again = request(call, config.seed) | machine(trainer.device) | {"step": trainer.step}
        directory.update_json(MANIFEST, {"resumed": [*manifest.get("resumed", ()), again]})
        directory.truncate_metrics(trainer.step)
        return Drive(composition, exporters, trainer, directory, life, heard, resumed).go(call.command, components)


KEPT = ("step", "steps", "artifacts", "made", "facts")
"""Keys of status.json that hold until a process that goes on with the run has something newer to say."""


def _announce(
    composition: Composition, stages: Mapping[str, Path], resumed: bool = False, checkpoint: Path | None = None
) -> None:
    """Says what the other processes of this run are to train."""

    def orders() -> dict[str, Any]:
        tree = read_yaml(to_yaml(composition.resolved()))[0]
        paths = {name: str(path.resolve()) for name, path in stages.items()}
        at = None if checkpoint is None else str(checkpoint.resolve())
        return {"config": tree, "stages": paths, "resumed": resumed, "checkpoint": at}

    party().announce(orders)


def _build(
    config: RunConfig,
    composition: Composition,
    exporters: Sequence[Exporter],
    start: Start | None,
    heard: Listeners,
    resumed: bool = False,
) -> tuple[Trainer, dict[str, Any]]:
    """Constructs the parts, which loads the models. Returns the trainer, and what the manifest says of the parts."""
    models = [part for part in composition.parts() if part.entry.kind == "guidance"]
    named = [f"{getattr(part.config, 'model', '')} ({part.entry.qualified})".removeprefix(" ") for part in models]
    heard.phase_began(PhaseBegan(f"loading the diffusion model {' and '.join(named)}" if named else "building the scene"))
    parts = build(composition)
    components = component_facts(composition, [*parts.all(), *exporters])
    if not resumed:
        for sentence in wide_views(composition, {name: model.resolution for name, model in parts.guidances.items()}):
            log.warning("%s", sentence)
    return make_trainer(config, parts, start, resumed), components


@contextmanager
def _remembering(directory: RunDirectory) -> Iterator[None]:
    """Warns of `--plugin` files that have changed since the run was made; says where copies are of those that are missing."""
    recorded = directory.read_json(MANIFEST).get("plugins", {})
    for sentence in changed_plugins(directory.path, plugin_files(), recorded):
        log.warning("%s", sentence)
    try:
        yield
    except PluginError as error:
        missing = missing_plugins(directory.path, plugin_files(), recorded)
        raise (PluginError(f"{error} The run was made with {missing}") if missing else error) from error.__cause__


def _record_changes(directory: RunDirectory, composition: Composition, step: int, overrides: Sequence[str]) -> None:
    """Writes down what a run goes on with, and keeps the configuration that it had."""
    kept = unused(directory.path / "resolved-before.yaml")
    with writing(kept, CheckpointError, directory.again):
        write_text(kept, directory.resolved.read_text(encoding="utf-8"))
    directory.write_config("resolved.yaml", to_yaml(composition.resolved()))
    changes = [*directory.read_json(MANIFEST).get("changes", ())]
    changes.append({"step": step, "overrides": list(overrides), "before": kept.name})
    directory.update_json(MANIFEST, {"changes": changes})


def reopen(directory: RunDirectory, device: str | None = None) -> tuple[Composition, Scene]:
    """The composition and the scene of an existing run, at its newest checkpoint. Builds neither losses nor guidance.

    Raises ConfigError for a `device` that is none, or is not there.
    """
    config = load_config(directory.resolved, [f"device={device}"] if device else [])
    with _remembering(directory):
        composition = compose(config, registry())
    return composition, open_scene(directory, composition, pick_device(config.device if device else _present(config.device)))


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
        if single is not None:
            return export_scene(scene, chosen.config.export, exporters, folder, stem).paths
        return export_all(scene, chosen.config.export, exporters, folder)


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
