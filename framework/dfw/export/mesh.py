"""Extracts the surface where the density crosses a level, as a closed triangle mesh.

Marching cubes (Lorensen and Cline 1987) finds the triangles on a grid. Every vertex then moves along its grid edge to the point
where the field itself crosses the level. So the surface of a sharp field is found far below the grid's spacing.
"""

from __future__ import annotations

from importlib import import_module

import numpy as np
import torch
from scipy import ndimage

from dfw.errors import ExportError
from dfw.export.grid import DensityGrid, density_at, home_of, sample_density
from dfw.export.unseen import unseen
from dfw.interfaces.geometry import DensityField, Surface
from dfw.interfaces.mesh import Floats, Ints, Mesh

BISECTIONS = 10  # a vertex ends within spacing / 2^10 of the crossing
MARGIN = 0.01  # cells between a vertex and the next node, so that no triangle collapses


def extract_mesh(
    field: DensityField,
    resolution: int,
    level: float,
    *,
    min_share: float = 0.01,
    fill_cavities: bool = True,
    lowest_view: float | None = None,
    refine: bool = True,
) -> Mesh:
    """Returns the closed surface density = `level` (1/unit) of `field`, from a grid of `resolution` cells along each axis.

    It drops parts below `min_share` of the occupied volume (floaters). It fills enclosed voids, and everything that no view from
    an elevation of `lowest_view` degrees upwards can see (`unseen`). Raises ExportError if the level lies outside the field's
    densities.
    """
    return surface_of(sample_density(field, resolution), field if refine else None, level, min_share, fill_cavities, lowest_view)


def surface_of(
    grid: DensityGrid,
    field: DensityField | None,
    level: float,
    min_share: float = 0.01,
    fill_cavities: bool = True,
    lowest_view: float | None = None,
) -> Mesh:
    """Like `extract_mesh`, from an already sampled `grid`. Refines the vertices on `field` if one is given."""
    low, high = grid.range
    if not low <= level < high:
        raise ExportError(_no_surface(low, high, level))
    values = np.pad(grid.values.cpu().numpy(), 1)  # the density outside the cube is zero, so the surface closes at its border
    values = _clean(values, level, min_share, fill_cavities, lowest_view)
    if field is None:
        vertices, faces = _marching_cubes(values, level)
    else:
        middles, faces = _marching_cubes((values > level).astype(np.float32), 0.5)
        vertices = _refine(middles, values, field, grid, level)
    mesh = Mesh((vertices - 1) * grid.spacing - grid.radius, faces)
    return mesh if mesh.volume > 0 else Mesh(mesh.vertices, mesh.faces[:, ::-1].copy())


def _no_surface(low: float, high: float, level: float) -> str:
    where = f"no surface at level {level:g}: density ranges {low:.3g}..{high:.3g}"
    if high <= low:
        return f"{where}, the same everywhere: there is no object in the scene; train longer or look at the previews"
    return f"{where}; try export.level={(low + high) / 2:.3g}, export.level=auto, or train longer"


def _clean(values: Floats, level: float, min_share: float, fill_cavities: bool, lowest_view: float | None) -> Floats:
    """Returns the padded grid without small separate parts or enclosed voids, and solid where no view looks."""
    occupied = values > level
    labels, count = ndimage.label(occupied, structure=np.ones((3, 3, 3)))
    if count > 1:
        sizes = np.bincount(labels.ravel())
        small = sizes < min_share * sizes[1:].sum()
        small[0] = False
        values = np.where(small[labels], 0, values)
        occupied = values > level
    if lowest_view is not None:
        values = np.where(unseen(occupied, lowest_view), values.max(), values)
        occupied = values > level
    if fill_cavities:
        values = np.where(ndimage.binary_fill_holes(occupied) & ~occupied, values.max(), values)
    return values


def _marching_cubes(values: Floats, level: float) -> tuple[Floats, Ints]:
    """Returns vertices (V, 3) in node indices and faces (F, 3)."""
    try:
        import mcubes
    except ImportError:
        vertices, faces, _, _ = import_module("skimage.measure").marching_cubes(values, level)
    else:
        vertices, faces = mcubes.marching_cubes(values, level)
    return vertices.astype(np.float64), faces.astype(np.int64)


def _refine(middles: Floats, values: Floats, field: DensityField, grid: DensityGrid, level: float) -> Floats:
    """Moves vertices from the `middles` (V, 3) of crossed grid edges to density = level, by bisection. Units: node indices."""
    node = np.floor(middles).astype(np.int64)
    along = middles - node > 0.25  # (V, 3), true on the edge's axis
    device, dtype = home_of(field)
    start = torch.as_tensor((node - 1) * grid.spacing - grid.radius, device=device, dtype=dtype)
    step = torch.as_tensor(along * grid.spacing, device=device, dtype=dtype)
    rising = torch.as_tensor(values[tuple(node.T)] <= level, device=device)
    low, high = start.new_zeros(len(node)), start.new_ones(len(node))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        beyond = (density_at(field, start + middle[:, None] * step) > level) == rising
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    fraction = ((low + high) / 2).clamp(MARGIN, 1 - MARGIN).double().cpu().numpy()
    return np.asarray(node + along * fraction[:, None])


@torch.no_grad()
def triangles_of(scene: Surface) -> Mesh:
    """Returns the triangles of a surface as they are now. Raises ExportError if there are none."""
    found = scene.surface()
    mesh = Mesh(found.vertices.double().cpu().numpy(), found.faces.cpu().numpy()).without_unused_vertices()
    if not len(mesh.faces):
        raise ExportError("the surface has no triangles; train longer, start from another scene, or look at the previews")
    return mesh
