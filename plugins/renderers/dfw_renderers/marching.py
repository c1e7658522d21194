"""Where to look along the rays: equally spaced samples in the scene's cube, only those in occupied cells, packed.

Legend: R rays, M rays that meet the occupied box, K samples of the longest, N samples kept, G cells per side of the grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_PARALLEL = 1e-12
"""Smallest absolute component of a direction: a ray parallel to a face then meets its plane very far away, not at 0/0."""
_PLACES = 2**22  # about 30 bytes each, so 120 MB
"""Places that the plain form looks at together."""


@dataclass(frozen=True)
class Samples:
    """N packed samples: index `ray` (N,) int64, `distance` (N,) and `length` (N,) of the interval each stands for, world units.

    Sorted by ray, then by distance.
    """

    ray: Tensor
    distance: Tensor
    length: Tensor

    def part(self, start: int, stop: int) -> Samples:
        """Samples [start, stop) of these."""
        return Samples(self.ray[start:stop], self.distance[start:stop], self.length[start:stop])


@dataclass(frozen=True)
class Occupancy:
    """Which cells of the cube |x|_inf <= radius may hold matter.

    occupied (G, G, G) bool, axes x, y, z. density (G, G, G), 1/unit: an estimate, rather too low than too high, for skipping
    what lies behind opaque matter; None to skip nothing.
    """

    radius: float
    occupied: Tensor
    density: Tensor | None = None

    @property
    def resolution(self) -> int:
        """G."""
        return int(self.occupied.shape[0])

    @cached_property
    def box(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest corner (3,) of the box around all occupied cells, world units; both 0 when there is none."""
        size = self.resolution
        along = [self.occupied.any(2).any(1), self.occupied.any(2).any(0), self.occupied.any(1).any(0)]
        marks = torch.stack(along).to(torch.uint8)
        low = marks.argmax(1)
        high = size - marks.flip(1).argmax(1)
        present = marks.amax(1) > 0
        corners = torch.stack([low, high]).float() * (2 * self.radius / size) - self.radius
        corners = torch.where(present, corners, torch.zeros_like(corners))
        return corners[0], corners[1]


def everywhere(radius: float, like: Tensor) -> Occupancy:
    """One cell, occupied: no space is skipped."""
    return Occupancy(radius, torch.ones(1, 1, 1, dtype=torch.bool, device=like.device))


def intersect_box(origin: Tensor, direction: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (R,) at which rays (R, 3) enter and leave the box from `low` to `high` (3,); enter >= leave where they miss.

    Never negative: a ray that starts inside enters at 0. Slab method (Kay and Kajiya 1986).
    """
    safe = torch.where(direction.abs() < _PARALLEL, torch.full_like(direction, _PARALLEL), direction)
    a, b = (low - origin) / safe, (high - origin) / safe
    enter = torch.minimum(a, b).amax(-1).clamp(min=0)
    leave = torch.maximum(a, b).amin(-1).clamp(min=0)
    return enter, leave


def march(
    origin: Tensor, direction: Tensor, occupancy: Occupancy, step: float, offset: Tensor | float = 0.5, early_stop: float = 0.0
) -> Samples:
    """Samples of rays (R, 3) at t_in + (k + offset) step, k = 0, 1 ..., in occupied cells; t_in is where the cube is entered.

    offset: in [0, 1), one for each ray (R,) or for all. What is occupied changes which samples are kept, not where they lie.
    early_stop: samples before which the transmittance, as estimated from `occupancy.density`, has fallen below it are dropped.

    This is the twin of `fast.marching.march`: all (R, K) places, then those that count. It looks at 2^22 places at a time. Of
    each such bundle of rays it reads two numbers from the device, K and N.
    """
    most = math.ceil(2 * math.sqrt(3) * occupancy.radius / step) + 1
    rays = max(1, _PLACES // most)
    if len(origin) <= rays:
        return _march(origin, direction, occupancy, step, offset, early_stop)
    if not isinstance(offset, Tensor):
        offset = origin.new_full((len(origin),), offset)
    bundles = zip(*(torch.split(each, rays) for each in (origin, direction, offset.expand(len(origin)))), strict=True)
    parts = [_march(start, toward, occupancy, step, shift, early_stop) for start, toward, shift in bundles]
    ray = torch.cat([part.ray + rays * index for index, part in enumerate(parts)])
    return Samples(ray, torch.cat([part.distance for part in parts]), torch.cat([part.length for part in parts]))


def _march(
    origin: Tensor, direction: Tensor, occupancy: Occupancy, step: float, offset: Tensor | float, early_stop: float
) -> Samples:
    shift, first, count = stretches(origin, direction, occupancy, step, offset)
    longest = int(count.max()) if count.numel() else 0
    index = first[:, None] + torch.arange(longest, device=origin.device, dtype=origin.dtype)
    distance = torch.addcmul(shift[:, None], index, index.new_full((), step))
    cell = cells(origin, direction, distance, occupancy)
    keep = occupancy.occupied.flatten()[cell] & (index < (first + count)[:, None])
    if early_stop > 0 and occupancy.density is not None:
        thickness = torch.where(keep, occupancy.density.flatten()[cell] * step, 0.0)
        before = thickness.cumsum(1) - thickness
        keep &= ~(torch.exp(-before) < early_stop)  # negated, so that a density of NaN hides nothing
    flat = keep.flatten().nonzero()[:, 0]
    kept = distance.flatten()[flat]
    return Samples(torch.div(flat, max(longest, 1), rounding_mode="floor"), kept, torch.full_like(kept, step))


def stretches(
    origin: Tensor, direction: Tensor, occupancy: Occupancy, step: float, offset: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """Shift, first and count (R,): the samples k < count within the occupied box lie at shift + (first + k) step."""
    corner = origin.new_full((3,), occupancy.radius)
    low, high = occupancy.box
    enter, leave = intersect_box(origin, direction, -corner, corner)
    box_enter, box_leave = intersect_box(origin, direction, low.to(origin), high.to(origin))
    shift = enter + step * offset
    first = ((box_enter - shift) / step).ceil().clamp(min=0)
    count = (((torch.minimum(box_leave, leave) - shift) / step).ceil() - first).clamp(min=0)
    return shift, first, count


def lines(origin: Tensor, direction: Tensor, occupancy: Occupancy) -> tuple[Tensor, Tensor]:
    """Rays (M, 3) in units of cells, from the cube's lowest corner: where they start, and their slope per world unit."""
    scale = occupancy.resolution / (2 * occupancy.radius)
    return (origin + occupancy.radius) * scale, direction * scale


def cells(origin: Tensor, direction: Tensor, distance: Tensor, occupancy: Occupancy) -> Tensor:
    """Flat index (M, K) of the cell at each `distance` (M, K) along the rays (M, 3); points outside count to the nearest cell."""
    size = occupancy.resolution
    start, slope = lines(origin, direction, occupancy)
    cell = distance.new_zeros(distance.shape, dtype=torch.int32)
    for axis in range(3):
        place = torch.addcmul(start[:, axis, None], distance, slope[:, axis, None]).clamp_(0, size - 1)
        cell.mul_(size).add_(place.to(torch.int32))
    return cell
