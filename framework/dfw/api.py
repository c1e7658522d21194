"""dfw from Python: `dfw.run`, `dfw.open`, `dfw.trainer`, `dfw.build`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from dfw.compose import Composition, compose
from dfw.config.kinds import KINDS
from dfw.config.load import Source, load_config, load_stages, load_with_provenance
from dfw.config.origins import Provenance
from dfw.config.settings import ComponentSettings, RunConfig
from dfw.errors import PluginError
from dfw.interfaces.component import Component
from dfw.plugins.parts import Chooser
from dfw.plugins.registry import registry
from dfw.runs import runner
from dfw.runs.attribution import naming
from dfw.runs.directory import RunDirectory, stage_directories
from dfw.runs.life import STATUS, status_of
from dfw.runs.scene import Scene
from dfw.runs.stages import compose_stages, run_stages
from dfw.runs.start import find_start, make_trainer
from dfw.runs.threads import as_before
from dfw.runs.trainer import Trainer


class Run:
    """A run on disk. Nothing is loaded before it is asked for."""

    def __init__(self, directory: str | Path, device: str | None = None) -> None:
        """`device`: where the scene is opened; None: the run's own where this machine has it. Raises CheckpointError."""
        self._run = RunDirectory.open(Path(directory).expanduser())
        self._device = device
        parent, self._given = self._run.path.parent, Path(directory).expanduser()
        self._root = parent if self._run.path in stage_directories(parent) else self._run.path

    @property
    def directory(self) -> Path:
        """The run's directory; of a run with stages that of its last stage."""
        return self._run.path

    @property
    def stages(self) -> list[Run]:
        """The stages that have begun, in order; the run itself where it has none."""
        return [Run(path, self._device) for path in stage_directories(self._root)] or [self]

    @property
    def status(self) -> str:
        """`running`, `finished`, `interrupted`, `diverged`, `failed`, or `killed`; empty where it has not begun.

        `killed`: its process is gone and has not said how it ended. Of a run with stages that of all of them, unless one
        stage was opened.
        """
        return status_of(self._given)

    @cached_property
    def config(self) -> RunConfig:
        """Its configuration, every default written out."""
        return load_config(self._run.resolved)

    @property
    def manifest(self) -> dict[str, Any]:
        """Versions, components and where they come from, what the run started from, what was changed on the way."""
        return self._run.read_json("manifest.json")

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """A row for each step, see docs/flow.md: `step`, `loss`, `losses`, `schedules`, `opacity`, `lr`, `seconds`, `wall` ..."""
        return self._run.read_metrics()

    @property
    def artifacts(self) -> dict[str, Path]:
        """Name (`glb`, `turntable`, `report` ...) -> file."""
        files: Mapping[str, str] = self._run.read_json(STATUS).get("artifacts", {})
        return {name: self.directory / path for name, path in files.items()}

    @cached_property
    def scene(self) -> Scene:
        """The scene at the newest checkpoint. Loads neither losses nor guidance."""
        return runner.reopen(self._run, self._device)[1]

    def export(self, out: str | Path | None = None, **settings: Any) -> dict[str, Path]:
        """Writes mesh and assets: name -> file. `settings`: fields of `export`, e.g. resolution=256, formats=["glb"].

        `out`: a folder, or a file whose ending decides the format; by default a new folder in the run's. Raises ConfigError and
        ExportError.
        """
        changed = load_with_provenance(self._run.resolved, (), {"export": settings} if settings else {})
        composition = compose(changed.config, registry(), changed.provenance)
        return runner.export(self.directory, composition, None if out is None else Path(out))

    def resume(self, *overrides: str, listeners: Sequence[object] | None = None) -> Run:
        """Goes on from the newest checkpoint; `overrides` such as "trainer.steps=1000" make it longer."""
        return Run(runner.resume(self.directory, overrides, listeners).directory, self._device)

    def __repr__(self) -> str:
        return f"Run({str(self.directory)!r}, {self.status or 'not begun'})"

    def _repr_png_(self) -> bytes:
        return self.scene.render(width=192)._repr_png_()


def run(config: Source, *overrides: str, listeners: Sequence[object] | None = None, **changes: Any) -> Run:
    """Makes the asset that a configuration describes.

    config: a file, the name of a shipped configuration, or a mapping. overrides: texts such as "trainer.steps=200". changes:
    the same as values, nested mappings included: `prompt="a blue car", trainer={"steps": 200}`. listeners: objects with hook
    implementations in place of the console. Raises DfwError.
    """
    compositions = compose_stages(load_stages(config, overrides, changes))
    if list(compositions) != [""]:
        return Run(run_stages(compositions, listeners).directory)
    composition = compositions[""]
    return Run(runner.run(composition.config, composition, listeners).directory)


def open(directory: str | Path, device: str | None = None) -> Run:
    """Opens a run that is there already. Raises CheckpointError for a folder that is not a run's."""
    return Run(directory, device)


@contextmanager
def trainer(config: Source, *overrides: str, **changes: Any) -> Iterator[Trainer]:
    """Opens a trainer, for a loop of your own: `with dfw.trainer("dreamfusion") as trainer: for step in trainer: ...`

    Arguments are those of `run`. Nothing is written to disk; `trainer.scene` shows the scene, and `trainer.save(folder)` writes a
    checkpoint. What a component raises names it.
    """
    loaded = load_with_provenance(config, overrides, changes)
    composition: Composition = compose(loaded.config, registry(), loaded.provenance)
    with as_before():
        start = find_start(composition, {}, loaded.provenance)
        made = make_trainer(loaded.config, composition.build(), start)
        with naming(made.components, lambda: f"at step {made.step}"):
            yield made


def build(kind: str, type: str, **options: Any) -> Component:
    """Builds one component by its name, checked as in a run: `dfw.build("loss", "sds", guidance_scale=10)`.

    Raises PluginError for an unknown kind or name, and ConfigError for wrong options.
    """
    if kind not in KINDS:
        raise PluginError(f"no kind of component named {kind!r}; there are {', '.join(KINDS)}")
    chooser = Chooser(registry(), Provenance())
    chosen = chooser.choose((kind,), kind, ComponentSettings(type=type, **options))
    chooser.finish()
    return chosen.construct()
