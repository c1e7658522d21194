"""The occupancy grid remembers coarsely where matter is, so that empty space costs nothing. Instant-NGP (Mueller et al. 2022).

Legend: G cells per side, N cells that an update evaluates.
"""

from __future__ import annotations

import weakref
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from dfw import ComponentConfig, DensityField, Progress

from .marching import Occupancy

_SLICE = 2**18  # points per call of the field, so that a fine grid needs little memory


class OccupancyConfig(ComponentConfig):
    """How empty space is found."""

    enabled: bool = True
    """Whether empty cells are skipped. If false, every sample in the cube is evaluated."""
    resolution: Annotated[int, Field(ge=4, le=256)] = 64
    """Cells per side of the scene's cube."""
    update_every: PositiveInt = 16
    """Steps between updates."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of the unoccupied cells that one update evaluates, in turn. Every update evaluates the occupied cells."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.7
    """Factor of a cell's remembered density at each evaluation. The memory never falls below the density just found."""
    threshold: PositiveFloat = 0.05
    """A cell is empty if matter of its density would have less optical thickness than this across a side of the scene's cube.
    The mean over all cells replaces it where that is less. So a ray loses at most sqrt(3) times this, whatever `samples` is."""
    warmup: NonNegativeInt = 32
    """Steps during which every update evaluates all cells."""


class OccupancyGrid(nn.Module):
    """Two memories of the density in each cell. Both are buffers, so that a restored run has the same bits."""

    peak: Tensor
    """Decaying maximum (G, G, G). It is infinite in cells that were never evaluated, so that they count as occupied."""
    recent: Tensor
    """Running mean (G, G, G)."""

    def __init__(self, config: OccupancyConfig) -> None:
        super().__init__()
        self.config = config
        size = (config.resolution,) * 3
        self.register_buffer("peak", torch.full(size, torch.inf))
        self.register_buffer("recent", torch.zeros(size))
        self._read: tuple[tuple[object, ...], Occupancy] | None = None

    def update(self, field: DensityField, progress: Progress, generator: torch.Generator) -> None:
        """Evaluates the field at one random point of some cells if an update is due at `progress`."""
        config = self.config
        if progress.step % config.update_every and progress.step > 0:
            return
        with torch.no_grad():
            cell = self._due(progress, field.radius)
            jitter = torch.rand(cell.shape[0], 3, generator=generator, device=self.peak.device)
            found = _density(field, _places(cell, jitter, config.resolution, field.radius))
            peak, recent = self.peak.view(-1), self.recent.view(-1)
            old = peak[cell]
            new = torch.isinf(old)
            recent[cell] = torch.where(new, found, (recent[cell] + found) / 2)
            peak[cell] = torch.where(new, found, torch.maximum(old * config.decay, found))

    def _due(self, progress: Progress, radius: float) -> Tensor:
        """Returns flat indices (N,) of the cells to evaluate: all in the warm-up, then the occupied ones and every n-th other."""
        index = torch.arange(self.peak.numel(), device=self.peak.device)
        if progress.step < self.config.warmup:
            return index
        every = max(1, round(1 / self.config.fraction))
        turn = progress.step // self.config.update_every % every
        due = index.remainder(every) == turn
        return (due | occupied_cells(self.peak, radius, self.config.threshold).flatten()).nonzero()[:, 0]

    def occupancy(self, radius: float) -> Occupancy:
        """Returns the grid of the cube |x| <= `radius` as marching reads it, rebuilt after an update."""
        key = (radius, *((id(t), t.data_ptr(), t._version) for t in (self.peak, self.recent)))
        if self._read is None or self._read[0] != key:
            self._read = key, Occupancy(radius, occupied_cells(self.peak, radius, self.config.threshold), self.recent)
        return self._read[1]


def occupied_cells(peak: Tensor, radius: float, threshold: float) -> Tensor:
    """Returns cells (G, G, G) whose `peak` density times 2 `radius` exceeds `threshold`, or its mean over all cells if less.

    The mean keeps a scene that is thin everywhere. Cells with a NaN density count as occupied, so that the run sees the NaN.
    """
    thickness = peak * (2 * radius)
    return ~(thickness <= thickness.mean().clamp(max=threshold))


def survey(field: DensityField, config: OccupancyConfig, like: Tensor) -> Occupancy:
    """Returns the occupancy of `field` as it is now, on `like`'s device. Draws nothing and remembers nothing.

    It evaluates the centre and a corner of every cell. Occupied cells follow from the highest density of a cell and its 26
    neighbours, occlusion from the lowest. It finds everything thicker than half a cell.
    """
    size = config.resolution
    with torch.no_grad():
        cell = torch.arange(size**3, device=like.device)
        looks = [_places(cell, torch.full((1, 3), at, device=like.device), size, field.radius) for at in (0.5, 0.0)]
        found = torch.stack([_density(field, look.to(like.dtype)) for look in looks]).view(2, size, size, size)
        highest = F.max_pool3d(found.amax(0)[None], 3, stride=1, padding=1)[0]
        lowest = -F.max_pool3d(-found.amin(0)[None], 3, stride=1, padding=1)[0]
        return Occupancy(field.radius, occupied_cells(highest, field.radius, config.threshold), lowest)


class Surveyor:
    """`survey` with a memory: it runs again only if the field is another one or has changed."""

    def __init__(self, config: OccupancyConfig) -> None:
        self.config = config
        self._key: tuple[object, ...] = ()
        self._field: weakref.ref[DensityField] | None = None
        self._found: Occupancy | None = None

    def __call__(self, field: DensityField, like: Tensor) -> Occupancy:
        """Returns the occupancy of `field` on `like`'s device, in its dtype."""
        state = [*field.parameters(), *field.buffers()]
        key = (field.radius, like.device, like.dtype, *((id(tensor), tensor._version) for tensor in state))
        same = self._field is not None and self._field() is field and self._key == key
        if self._found is None or not same:
            self._found = survey(field, self.config, like)
            self._field, self._key = weakref.ref(field), key
        return self._found

    def forget(self) -> None:
        """Surveys again at the next call, for fields that change without their parameters."""
        self._field, self._found = None, None

    def __deepcopy__(self, memo: dict[int, object]) -> Surveyor:
        return Surveyor(self.config)

    def __reduce__(self) -> tuple[type[Surveyor], tuple[OccupancyConfig]]:
        return Surveyor, (self.config,)


def _places(cell: Tensor, within: Tensor, size: int, radius: float) -> Tensor:
    """Returns world points (N, 3) in cells of flat index (N,), at the fraction `within` (N or 1, 3) of each cell."""
    corner = torch.stack([cell // size**2, cell // size % size, cell % size], dim=-1)
    return (corner + within) * (2 * radius / size) - radius


def _density(field: DensityField, points: Tensor) -> Tensor:
    """Returns the field's density (N,) at `points` (N, 3), float32, evaluated in slices."""
    return torch.cat([field.density(part).float() for part in torch.split(points, _SLICE)])
