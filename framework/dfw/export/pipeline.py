"""Exports an optimised field in one call: level, surface, decimation, texture, files, agreement with the renders."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from dfw.config.settings import FACES, ExportSettings
from dfw.export.agreement import Agreement, compare
from dfw.export.decimate import decimate
from dfw.export.files import STEM, write_files
from dfw.export.grid import sample_density
from dfw.export.isosurface import isosurface
from dfw.export.mesh import triangles_of
from dfw.export.pieces import without_crumbs
from dfw.export.texture import bake, bake_surface, surface_albedo
from dfw.interfaces.data import CameraBatch
from dfw.interfaces.exporter import Exporter
from dfw.interfaces.geometry import DensityField, Surface


@dataclass(frozen=True)
class ExportResult:
    """The files of an export, and how good the mesh is."""

    paths: dict[str, Path]
    """Format -> file."""
    level: float | None
    """Density of the surface, 1/unit; None for a scene that is a surface."""
    agreement: Agreement
    """Agreement of the mesh with the renders."""
    vertices: int
    """Vertices after decimation."""
    faces: int
    """Triangles after decimation."""
    volume: float
    """Volume, units^3."""
    watertight: bool
    """Whether the mesh is closed."""
    crumbs: int
    """Separate pieces that were left out because they are so small (`export.smallest_piece`)."""
    seconds: float
    """Wall time."""

    def facts(self) -> dict[str, str]:
        """Returns label -> text, for a report."""
        colour = {} if self.agreement.colour is None else {"Colour error": f"{self.agreement.colour:.3f} of 1"}
        return {
            "Triangles": f"{self.faces:,}",
            "Closed": "yes" if self.watertight else "no",
            **({"Small pieces left out": f"{self.crumbs:,}"} if self.crumbs else {}),
            "Volume": f"{self.volume:.4f} units\u00b3",
            **({} if self.level is None else {"Density at the surface": f"{self.level:.3g} per unit"}),
            "Silhouettes, mesh against renders": f"{100 * self.agreement.silhouette:.1f} % IoU",
            **colour,
        }

    def summary(self) -> str:
        """Returns one line for the terminal."""
        colour = "" if self.agreement.colour is None else f", colour error {self.agreement.colour:.3f}"
        closed = "closed" if self.watertight else "not closed"
        level = "" if self.level is None else f"density level {self.level:.3g}, "
        crumbs = f"{self.crumbs} small pieces left out, " if self.crumbs else ""
        return (
            f"mesh: {self.faces} faces, {closed}, {crumbs}volume {self.volume:.3f}, {level}"
            f"silhouettes agree {self.agreement.silhouette:.3f}{colour}, {self.seconds:.1f} s"
        )


def export_mesh(
    scene: DensityField | Surface,
    opacity: Tensor,
    cameras: CameraBatch,
    settings: ExportSettings,
    exporters: Sequence[Exporter],
    directory: Path,
    *,
    title: str = "object",
    stem: str = STEM,
    albedo: Tensor | None = None,
    lowest_view: float | None = None,
    begin: Callable[[str], object] = str,
) -> ExportResult:
    """Writes the surface of `scene`, textured, into `directory` with each of `exporters`, as files called `stem`.

    opacity (K, H, W): rendered views of `cameras`. They choose the level if it is `auto`, and the mesh is compared with them.
    albedo (K, H, W, 3): the same views without light and background (`rendered_albedo`), to compare colours. title: the object's
    name inside the files. lowest_view: degrees; the mesh is solid wherever no view from this elevation upwards can look. `begin`
    hears `texture` when the texture is begun, and `files` when they are written. Raises ExportError if there is no
    surface, or if the directory cannot be written.
    """
    started = time.perf_counter()
    level, crumbs = None, 0
    if isinstance(scene, Surface):
        whole = triangles_of(scene)
        if scene.texture_coordinates() is None:
            mesh, crumbs = without_crumbs(decimate(whole, settings.faces or FACES), settings.smallest_piece)
        else:
            mesh = decimate(whole, settings.faces or len(whole.faces))
        begin("texture")
        textured = bake_surface(scene, settings.texture, None if mesh is whole else mesh)
    else:
        grid = sample_density(scene, settings.resolution)
        whole, level = isosurface(
            scene, grid, opacity, cameras, level=settings.level, smoothing=settings.smoothing, lowest_view=lowest_view
        )
        mesh = decimate(whole, settings.faces or FACES)
        mesh, crumbs = without_crumbs(mesh, settings.smallest_piece)
        begin("texture")
        textured = bake(partial(surface_albedo, scene, cell=grid.spacing), mesh, settings.texture)
    begin("files")
    paths = write_files(textured, directory, exporters, title, stem)
    agreement = compare(textured, cameras, opacity, albedo)
    seconds = time.perf_counter() - started
    size = len(mesh.vertices), len(mesh.faces), mesh.volume
    return ExportResult(paths, level, agreement, *size, mesh.watertight, crumbs, seconds)
