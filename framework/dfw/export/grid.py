"""The density on a regular grid over the scene's cube. The isosurface and its level are computed from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from dfw.interfaces.geometry import DensityField, Geometry

CHUNK = 2**18  # points per query of the field, which bounds its memory


@dataclass(frozen=True)
class DensityGrid:
    """Density at the nodes of a grid. Node (i, j, k) lies at -radius + spacing (i, j, k), world units."""

    values: Tensor
    """(n, n, n), 1/unit, indexed [x, y, z]."""
    radius: float
    """Half-width of the cube, world units."""

    @property
    def cells(self) -> int:
        """Cells along each axis, n - 1."""
        return int(self.values.shape[0]) - 1

    @property
    def spacing(self) -> float:
        """Side of a cell, world units."""
        return 2 * self.radius / self.cells

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest density."""
        return float(self.values.min()), float(self.values.max())


def home_of(field: Geometry) -> tuple[torch.device, torch.dtype]:
    """Returns the device and dtype of the points that `field` takes: its first floating tensor's, else CPU and float32."""
    for tensor in (*field.parameters(), *field.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype if tensor.dtype in (torch.float32, torch.float64) else torch.float32
    return torch.device("cpu"), torch.float32


@torch.no_grad()
def density_at(field: DensityField, points: Tensor) -> Tensor:
    """Returns the density (P,) at `points` (P, 3), queried in chunks. It is 0 outside the cube, as the contract says."""
    inside = points.abs().amax(dim=-1) <= field.radius * (1 + 1e-6)
    parts = [field.density(part) for part in torch.split(points, CHUNK)]
    return torch.where(inside, torch.cat(parts), 0)


def softened(grid: DensityGrid, level: float, deviation: float) -> DensityGrid:
    """Blurs the inside, s^4 / (s^4 + level^4) of the density s, in [0, 1], with a Gaussian of `deviation` world units.

    The result is 0.5 on a plane surface. A wave of wave number k on it shrinks to exp(-k^2 deviation^2 / 2) of its height: pits
    and bumps smaller than the Gaussian go, larger shapes stay. Densities far above the level all count as 1, so that dense cells
    do not swell.
    """
    inside = 1 / (1 + (level / grid.values.clamp(min=1e-9)) ** 4)
    blurred = gaussian_filter(inside.cpu().numpy(), deviation / grid.spacing, mode="constant")
    return DensityGrid(torch.from_numpy(blurred).to(inside), grid.radius)


@torch.no_grad()
def sample_density(field: DensityField, resolution: int) -> DensityGrid:
    """Samples the density at the (resolution + 1)^3 nodes of the cube [-radius, radius]^3."""
    device, dtype = home_of(field)
    axis = torch.linspace(-field.radius, field.radius, resolution + 1, device=device, dtype=dtype)
    slab = max(1, CHUNK // (resolution + 1) ** 2)
    parts = []
    for xs in torch.split(axis, slab):
        points = torch.stack(torch.meshgrid(xs, axis, axis, indexing="ij"), dim=-1)
        parts.append(density_at(field, points.reshape(-1, 3)).view(points.shape[:-1]).float())
    return DensityGrid(torch.cat(parts), field.radius)
