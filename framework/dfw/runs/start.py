"""What a run starts from: another run's scene, an earlier stage's, or a mesh file. Happens once, in a new run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from dfw.compose import Composition, Parts, compose
from dfw.config.load import load_config
from dfw.config.origins import Provenance
from dfw.config.paths import exists, shown
from dfw.config.settings import RunConfig, StartSettings
from dfw.errors import CheckpointError, ConfigError
from dfw.export.load import load_mesh
from dfw.interfaces.component import name_of
from dfw.interfaces.geometry import Geometry, Surface
from dfw.plugins.registry import registry
from dfw.ranks.processes import party
from dfw.runs.attribution import naming
from dfw.runs.checkpoint import load_optimizers
from dfw.runs.directory import RunDirectory
from dfw.runs.scene import Scene, open_scene
from dfw.runs.seal import digest_of
from dfw.runs.threads import settle
from dfw.runs.trainer import Trainer, initialise, leave, pick_device
from dfw.text import shortened


@dataclass(frozen=True)
class Start:
    """A source that is found and checked, before a model loads."""

    settings: StartSettings
    source: Path
    composition: Composition | None
    """The source run's; None for a mesh file."""
    checkpoint: Path | None
    """The source run's newest one; None for a mesh file."""

    def facts(self) -> dict[str, Any]:
        """Returns what the manifest says of it."""
        facts: dict[str, Any] = {"source": str(self.source.resolve()), "take": list(self.settings.take)}
        if self.checkpoint is None:
            return facts | {"digest": digest_of(self.source)}
        return facts | {"checkpoint": self.checkpoint.name, "digest": digest_of(self.checkpoint / "geometry.safetensors")}

    def check_files(self) -> None:
        """Reads a mesh file. Raises ConfigError if it cannot be read, or holds no surface."""
        if self.composition is None:
            load_mesh(self.source, self.settings.up, self.settings.front, self.settings.radius)

    def scene(self, device: torch.device) -> Scene:
        """Opens the source run's scene."""
        assert self.composition is not None  # a run has one
        return open_scene(RunDirectory.find(self.source), self.composition, device, self.checkpoint)

    def prepare(self, trainer: Trainer) -> None:
        """Draws the initial values, then takes over what the settings name."""
        initialise(trainer)
        if self.composition is None:
            trainer.geometry.start_from(_mesh_surface(self.source, self.settings, trainer.device))
            return
        scene = self.scene(trainer.device)
        with scene.showing():
            if "geometry" in self.settings.take:
                _check_not_empty(scene.geometry)
                own = self.settings.smoothing
                scene.geometry.smoothing = scene.config.export.smoothing if own is None else own
                trainer.geometry.start_from(scene.geometry)
            if "renderer" in self.settings.take:
                _take_renderer(trainer, scene)

    def take_optimizer(self, trainer: Trainer) -> None:
        """Takes over the optimiser's state. Raises ConfigError if the parameters differ."""
        if "optimizer" not in self.settings.take or self.checkpoint is None:
            return
        try:
            load_optimizers(self.checkpoint, {"optimizer": trainer.optimizer})
        except CheckpointError as error:
            raise ConfigError(f"start.take: the optimizer's state does not fit this run's parameters: {error}") from error


def open_source(run: Path) -> tuple[Composition, Path]:
    """Opens a run to start from: its parts, and its newest checkpoint. Raises CheckpointError where it has none."""
    directory = RunDirectory.open(run)
    checkpoint = directory.newest_checkpoint()
    return compose(load_config(directory.resolved), registry()), checkpoint


def find_start(
    composition: Composition,
    stages: Mapping[str, Path],
    provenance: Provenance | None = None,
    opening: Callable[[Path], tuple[Composition, Path]] = open_source,
) -> Start | None:
    """Finds the source that a run names. `stages`: name -> directory of the stages before. `opening`: as `open_source`.

    Raises ConfigError where it is not there, or of a class that the run's geometry cannot start from.
    """
    provenance, settings = provenance or Provenance(), composition.config.start
    if settings is None:
        return None
    if settings.mesh is not None:
        path = Path(settings.mesh)
        if not (exists(path) and path.is_file()):
            where = provenance.prefix(("start", "mesh"))
            raise ConfigError(f"{where}there is no file {shortened(shown(path), 160)}; give an OBJ, GLB or PLY file")
        check_class(composition, None, provenance)
        return Start(settings, path, None, None)
    if settings.stage is not None and settings.stage not in stages:
        known = ", ".join(stages) or "none"
        where = provenance.prefix(("start", "stage"))
        raise ConfigError(f"{where}no stage before this one is called {settings.stage!r}; there are {known}")
    source = stages[settings.stage] if settings.stage is not None else Path(str(settings.run))
    try:
        theirs, checkpoint = opening(source)
    except CheckpointError as error:
        raise ConfigError(f"{provenance.prefix(('start', 'run'))}{error}") from error
    check_class(composition, theirs, provenance)
    return Start(settings, source, theirs, checkpoint)


def check_class(composition: Composition, source: Composition | None, provenance: Provenance) -> None:
    """Raises ConfigError where a run's geometry cannot start from that of `source`, or from a mesh file where that is None."""
    settings, target = composition.config.start, composition.chosen[("geometry",)]
    wanted = cast(type[Geometry], target.cls)
    theirs = None if source is None else source.chosen[("geometry",)]
    given = Surface if theirs is None else cast(type[Geometry], theirs.cls)
    if settings is None or "geometry" not in settings.take or wanted.starts_from(given):
        return
    kind, place = next((key, value) for key in ("run", "stage", "mesh") if (value := getattr(settings, key)) is not None)
    what = "a mesh file" if theirs is None else f"the {theirs.who} of {shortened(str(place), 160)}"
    instead = "choose another geometry" if theirs is None else f"choose another {kind}, or another geometry"
    raise ConfigError(f"{provenance.prefix(('start', kind))}{target.who} cannot start from {what}; {instead}")


def _check_not_empty(source: Geometry) -> None:
    """Raises ConfigError for triangles that have vanished in the source's last step, which no later step of it could tell."""
    if isinstance(source, Surface) and not len(source.surface().faces):
        raise ConfigError(
            f"{name_of(source)} has no surface to start from: its last step left no triangles; run it again with lower learning "
            "rates, or start from another run"
        )


def _take_renderer(trainer: Trainer, scene: Scene) -> None:
    try:
        trainer.renderer.load_state_dict(scene.renderer.state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        who = f"{name_of(trainer.renderer)} cannot take over {name_of(scene.renderer)}"
        raise ConfigError(f"start.take: {who} ({reason}); leave renderer out of take") from None


def _mesh_surface(path: Path, settings: StartSettings, device: torch.device) -> Geometry:
    from dfw.runs.mesh_source import MeshSource

    return MeshSource(path, settings.up, settings.front, settings.radius).to(device).eval()


def make_trainer(config: RunConfig, parts: Parts, start: Start | None = None, resumed: bool = False) -> Trainer:
    """A trainer at step 0: with initial values, with what `start` gives, or (`resumed`) before a checkpoint is restored.

    Sets torch's number of threads, as `trainer.threads` says.
    """
    settle(config.trainer.threads, parts.guidances.values())
    with naming(parts.all(), lambda: "while the run was set up"):
        prepare = leave if resumed else initialise if start is None else start.prepare
        trainer = Trainer(config, parts, pick_device(party().placed(config.device)), prepare)
        if start is not None:
            start.take_optimizer(trainer)
        return trainer
