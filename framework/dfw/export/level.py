"""Chooses the density of the surface: the level whose silhouettes agree best with the rendered views."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dfw.errors import ExportError
from dfw.export.grid import DensityGrid
from dfw.interfaces.data import CameraBatch

CANDIDATES = 64  # in each half; 64 logarithmic steps over four decades are 15 % apart
SIDE = 64  # larger views are read on every second pixel, every third ...: silhouettes need no more
PLATEAU = 0.005  # levels this close to the best IoU count as equal: a few pixels of an outline are noise


@dataclass(frozen=True)
class LevelChoice:
    """A level, and how well its silhouettes agree with the rendered ones."""

    level: float
    """Density, 1/unit."""
    iou: float
    """In [0, 1]."""


@torch.no_grad()
def largest_density(grid: DensityGrid, cameras: CameraBatch, stride: int = 1) -> Tensor:
    """Returns the largest density along each pixel's ray (B, h, w), for every `stride`-th row and column.

    It reads the grid trilinearly, about one sample per cell. Rays that miss the cube have 0. A ray meets the surface of level L
    exactly if its largest density is above L, so one march serves all levels.
    """
    return torch.stack([density.amax(dim=-1) for density, _ in _marched(grid, cameras, stride)])


@torch.no_grad()
def opacity_through(grid: DensityGrid, cameras: CameraBatch) -> Tensor:
    """Returns the opacity 1 - exp(-integral of the density) of each pixel's ray (B, H, W), from about one sample per cell."""
    return torch.stack([-torch.expm1(-density.sum(dim=-1) * step) for density, step in _marched(grid, cameras, 1)])


def _marched(grid: DensityGrid, cameras: CameraBatch, stride: int) -> Iterator[tuple[Tensor, Tensor]]:
    """For each camera the density (h, w, S) at S even steps through the cube, 0 for rays that miss it, and the steps (h, w)."""
    device = grid.values.device
    volume = grid.values.permute(2, 1, 0)[None, None]  # grid_sample reads (z, y, x)
    fractions = torch.linspace(0, 1, 2 * grid.cells, device=device)
    rows = len(range(0, cameras.height, stride))
    for index in range(len(cameras)):
        rays = cameras.select(slice(index, index + 1)).rays()
        origin, direction = (
            part[0, ::stride, ::stride].to(device, torch.float32).reshape(-1, 3) for part in (rays.origin, rays.direction)
        )
        near, far = _cube_interval(origin, direction, grid.radius)
        distance = near[:, None] + (far - near)[:, None] * fractions
        points = (origin[:, None] + distance[..., None] * direction[:, None]) / grid.radius
        density = F.grid_sample(volume, points[None, None], align_corners=True, padding_mode="zeros")[0, 0, 0]
        density = torch.where((far > near)[:, None], density, 0)
        yield density.view(rows, -1, len(fractions)), ((far - near) / len(fractions)).view(rows, -1)


def _cube_interval(origin: Tensor, direction: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Returns distances (R,) where rays enter and leave the cube; far <= near where they miss it. Kay and Kajiya 1986."""
    safe = torch.where(direction.abs() < 1e-9, torch.full_like(direction, 1e-9), direction)
    one, other = (-radius - origin) / safe, (radius - origin) / safe
    near = torch.minimum(one, other).amax(dim=-1).clamp(min=0)
    return near, torch.maximum(one, other).amin(dim=-1)


@torch.no_grad()
def choose_level(grid: DensityGrid, opacity: Tensor, cameras: CameraBatch) -> LevelChoice:
    """Returns the level whose silhouettes have the largest IoU with `opacity` (K, H, W) > 0.5, among about 128 candidates.

    If several agree equally well, it returns their geometric middle. Raises ExportError if no pixel is more than half opaque.
    """
    low, high = grid.range
    stride = max(1, cameras.height // SIDE)
    seen = opacity[:, ::stride, ::stride].to(grid.values.device) > 0.5
    if not bool(seen.any()) or high <= max(low, 0):
        raise ExportError(
            f"no view is more than half opaque (largest opacity {float(opacity.max()):.3g}, density {low:.3g}..{high:.3g}), so "
            "there is no object to export; train longer, or set export.level to a density by hand"
        )
    peak = largest_density(grid, cameras, stride)
    levels = _candidates(peak.device) * high
    levels = levels[levels > low]
    scores = torch.stack([_iou(peak > level, seen) for level in levels])
    best = scores.max()
    good = levels[_run_around_best(scores >= best - PLATEAU, int(scores.argmax()))]
    return LevelChoice(float((good[0] * good[-1]).sqrt()), float(best))


def _candidates(device: torch.device) -> Tensor:
    """Returns sorted levels as shares of the largest density: half of them log-spaced from 1e-4, half linearly spaced."""
    log = torch.logspace(-4, 0, CANDIDATES + 1, device=device, dtype=torch.float64)
    even = torch.linspace(0, 1, CANDIDATES + 1, device=device, dtype=torch.float64)
    return torch.cat([log[:-1], even[1:-1]]).sort().values


def _iou(one: Tensor, other: Tensor) -> Tensor:
    return (one & other).sum().double() / (one | other).sum().clamp(min=1)


def _run_around_best(good: Tensor, best: int) -> slice:
    """Returns the unbroken run of `good` around index `best`."""
    bad = (~good).nonzero().flatten().tolist()
    start = max((index + 1 for index in bad if index < best), default=0)
    return slice(start, min((index for index in bad if index > best), default=len(good)))
