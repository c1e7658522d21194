"""What a run leaves behind: previews on the way; turntable, mesh, assets and report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import torch

from dfw.atomic import filling, move_new, writing
from dfw.compose import Composition
from dfw.config.settings import ExportSettings
from dfw.errors import DfwError, ExportError, one_line
from dfw.export.agreement import rendered_albedo
from dfw.export.files import STEM
from dfw.export.pictures import check_turntable, save_grid, save_turntable
from dfw.export.pipeline import ExportResult, export_mesh
from dfw.export.shape import solid_of
from dfw.interfaces.component import name_of
from dfw.interfaces.data import CameraBatch
from dfw.interfaces.exporter import Exporter
from dfw.interfaces.geometry import Geometry, Surface
from dfw.runs.directory import RunDirectory, stage_directories
from dfw.runs.scene import Scene

log = logging.getLogger("dfw.runs")

PREVIEW_VIEWS = 4
EXPORT_VIEWS, EXPORT_WIDTH = 8, 128  # the renders that choose the surface's level and that the mesh is compared with


def preview_views(scene: Scene) -> int:
    """Returns the number of views in a preview."""
    return 1 if scene.flat else PREVIEW_VIEWS


def preview(scene: Scene, directory: RunDirectory) -> Path:
    """Front, left, back and right as one picture, `images/step-NNNNNN.png`; of pictures in a plane the first.

    A scene that moves goes from its first moment to its last on the way, also in the turntable.
    """
    path = directory.images / f"step-{scene.step:06d}.png"
    views = _moving(scene.views(preview_views(scene), scene.config.trainer.preview_width))
    return save_grid(scene.render(views).colours, path)


def _moving(cameras: CameraBatch) -> CameraBatch:
    return cameras.at_time(torch.linspace(0, 1, len(cameras)))


def turntable(scene: Scene, path: Path, frames: int, width: int, elevation: float | None = None) -> Path:
    """One turn around the scene, in the format that the path's ending names; without an ending a folder of PNG frames.

    Replaces nothing: what exists keeps its name, and the new one gets a number.
    """
    cameras = _moving(scene.views(frames, width, elevation))
    images = [scene.render(cameras.select(slice(i, i + 1))).colours for i in range(frames)]
    return save_turntable(torch.cat(images), path)


def turntable_path(folder: Path, settings: ExportSettings) -> Path:
    """Returns where in `folder` the configuration's turntable is written."""
    return folder / ("turntable" if settings.turntable == "png" else f"turntable.{settings.turntable}")


def exporters_of(composition: Composition) -> list[Exporter]:
    """Constructs the run's exporters, before the first step: a library that is missing at the end would cost the whole run.

    Raises ExportError if the run's mesh formats or its turntable cannot be written.
    """
    config = composition.config
    if config.export.turntable_frames:
        check_turntable(turntable_path(Path(config.output), config.export))
    return composition.exporters()


def export_scene(
    scene: Scene,
    settings: ExportSettings,
    exporters: Sequence[Exporter],
    folder: Path,
    stem: str = STEM,
    begin: Callable[[str], object] = str,
) -> ExportResult:
    """Writes the mesh with each exporter as `folder/stem`, or with a number added. `begin` as in `export_mesh`.

    Raises ExportError where the scene has no surface, and where there is no exporter.
    """
    if not exporters:
        raise ExportError("export.formats is empty, so there is nothing to write; name a format, e.g. --formats glb")
    with scene.showing():
        solid = solid_of(scene.geometry)
    if solid is None:
        raise ExportError(f"{name_of(scene.geometry)} is neither a density field nor a surface; only those become meshes")
    cameras = scene.views(EXPORT_VIEWS, EXPORT_WIDTH)
    render = scene.render(cameras).render
    with scene.showing():
        albedo = None if isinstance(solid, Surface) else rendered_albedo(solid, cameras, render)
        result = export_mesh(
            solid,
            render.opacity,
            cameras,
            settings,
            exporters,
            folder,
            title=scene.config.subject,
            albedo=albedo,
            lowest_view=scene.look.lowest,
            stem=stem,
            begin=begin,
        )
    log.info("%s", result.summary())
    return result


def export_assets(scene: Scene, folder: Path) -> dict[str, Path]:
    """Writes into `folder` what the geometry has besides a mesh (`Geometry.export_assets`): name -> file; no file is replaced.

    Raises ExportError, naming the geometry, when that fails or a file is not where it was said to be.
    """
    geometry, who = scene.geometry, name_of(scene.geometry)
    if type(geometry).export_assets is Geometry.export_assets:
        return {}
    with writing(f"the assets in {folder}"), filling(folder / "assets") as scratch:
        with scene.showing():
            try:
                written = geometry.export_assets(scratch)
            except DfwError:
                raise
            except Exception as error:
                raise ExportError(f"{who} could not export its assets: {one_line(error)}") from error
        for name, path in written.items():
            if not path.is_file() or path.parent != scratch:
                raise ExportError(f"{who} said that asset {name!r} is {path}, but there is no such file in {scratch}")
        return {name: move_new(path, folder / path.name) for name, path in written.items()}


def export_all(scene: Scene, settings: ExportSettings, exporters: Sequence[Exporter], folder: Path) -> dict[str, Path]:
    """Writes assets and mesh into `folder`: name -> file; of a geometry that does not become a mesh its assets alone.

    Raises ExportError where there is nothing to write.
    """
    made = export_assets(scene, folder)
    if made and not (exporters and scene.geometry.has_shape):
        return made
    return made | export_scene(scene, settings, exporters, folder).paths


def stage_links(directory: RunDirectory) -> dict[str, str]:
    """Returns the reports of the other stages of the same run: label -> relative URL. Empty for a run without stages.

    Of a stage that was begun several times only the last directory counts.
    """
    others = {path.name.partition("-")[0]: path for path in stage_directories(directory.path.parent) if path != directory.path}
    report = directory.report.name
    return {f"Stage {path.name}": f"../{quote(path.name)}/{report}" for path in others.values() if (path / report).is_file()}
