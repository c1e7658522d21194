"""The surface of a density field, as exports and starts take it: level, smoothing, triangles."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from dfw.errors import ExportError
from dfw.export.grid import DensityGrid, softened
from dfw.export.level import choose_level
from dfw.export.mesh import surface_of
from dfw.interfaces.data import CameraBatch
from dfw.interfaces.geometry import DensityField
from dfw.interfaces.mesh import Mesh


def isosurface(
    field: DensityField,
    grid: DensityGrid,
    opacity: Tensor,
    cameras: CameraBatch,
    *,
    level: float | Literal["auto"] = "auto",
    smoothing: float = 0.0,
    lowest_view: float | None = None,
) -> tuple[Mesh, float]:
    """Returns the closed surface of `field`, which `grid` samples, and its level, 1/unit.

    opacity (K, H, W): views of `cameras`, whose silhouettes choose a level that is `auto`. smoothing: standard deviation of a
    Gaussian over the shape, world units; 0 leaves the field as it is. `lowest_view` is as in `extract_mesh`. Raises ExportError
    if there is no surface, or if the smoothing leaves none at a level that is given.
    """
    found = choose_level(grid, opacity, cameras).level if level == "auto" else float(level)
    low, high = grid.range
    if smoothing == 0 or not low <= found < high:
        return surface_of(grid, field, found, lowest_view=lowest_view), found
    soft = softened(grid, found, smoothing)
    try:
        share = choose_level(soft, opacity, cameras).level if level == "auto" else 0.5
        return surface_of(soft, None, share, lowest_view=lowest_view), found
    except ExportError as error:
        raise ExportError(f"export.smoothing: {smoothing:g} units leave nothing of this shape; try less, or 0") from error
