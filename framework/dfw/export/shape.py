"""The shape of a trained scene, for geometries that take it over: triangles, and the colours on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dfw.errors import ConfigError, ExportError
from dfw.export.grid import sample_density
from dfw.export.isosurface import isosurface
from dfw.export.level import opacity_through
from dfw.export.mesh import triangles_of
from dfw.export.texture import surface_albedo
from dfw.interfaces.component import name_of
from dfw.interfaces.data import SurfacePoints
from dfw.interfaces.geometry import DensityField, Geometry, Surface
from dfw.interfaces.mesh import Mesh
from dfw.interfaces.poses import orbit

VIEWS, ELEVATION, FOV, SIDE = 8, 20.0, 40.0, 64  # as many views as a turntable needs to show every side
DISTANCE = 3.5  # half-widths of the cube: the ball in it fills most of such a view
LOWEST = -75.0  # degrees: what cannot be seen from here upwards is inside, whatever cameras the scene was made with


@dataclass(frozen=True)
class Shape:
    """The surface of a scene."""

    mesh: Mesh
    """Its triangles, world units."""
    colour: Callable[[Tensor], Tensor]
    """Points (P, 3) on it or near it, on the scene's device -> albedo (P, 3) in [0, 1], as seen from outside."""


def solid_of(geometry: Geometry) -> DensityField | Surface | None:
    """Returns the geometry itself, or the field that it stands for; None for one that has no shape."""
    return geometry if isinstance(geometry, DensityField | Surface) else geometry.density_field()


@torch.no_grad()
def shape_of(source: Geometry, cells: int = 128) -> Shape:
    """Returns the surface of `source`, to be called in `Geometry.start_from`. Its triangles are not decimated.

    A `Surface` gives its own triangles. Those of a density field come from a grid of `cells` cells along each axis, as in an
    export, and are as smooth as `source.smoothing` says. The level is the one whose silhouettes agree best with the field's own
    opacity in eight views. Parts below 1 % of the volume are left out. Voids are filled, and so is what only a crack leads to.
    Of another geometry its `density_field` is taken. Raises ConfigError for a source without one, and for one without a surface.
    """
    solid = solid_of(source)
    try:
        if isinstance(solid, Surface):
            return Shape(triangles_of(solid), lambda points: solid.material(SurfacePoints(points)).albedo)
        if solid is not None:
            return _taken(solid, cells, source.smoothing)
    except ExportError as error:
        raise ConfigError(f"{name_of(source)} has no surface to start from: {error}") from error
    raise ConfigError(f"{name_of(source)} is neither a density field nor a surface; only those have a shape to start from")


def _taken(source: DensityField, cells: int, smoothing: float) -> Shape:
    grid = sample_density(source, cells)
    cameras = orbit(VIEWS, ELEVATION, DISTANCE * source.radius, FOV, SIDE, SIDE, grid.values.device)
    mesh, _ = isosurface(source, grid, opacity_through(grid, cameras), cameras, smoothing=smoothing, lowest_view=LOWEST)

    def colour(points: Tensor) -> Tensor:
        normal = source.sample(points, normals=True).normal
        assert normal is not None  # it was asked for
        found = surface_albedo(source, points.cpu().numpy(), normal.cpu().numpy(), grid.spacing)
        return torch.as_tensor(found).to(points)

    return Shape(mesh, colour)
