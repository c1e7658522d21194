"""A signed distance on a tetrahedral grid, whose surface is extracted in every step.

Legend: n cells along each axis; R free nodes of the grid (see `tet_grid`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from dfw import Geometry, Progress, Resized, Triangles

from .grid_surface import FINEST, OUTSIDE, SMALLEST, GridConfig, GridSurface, rows
from .kept_surface import Extracted
from .marching_tets import crossings, marching_tetrahedra
from .tet_grid import (
    cells_of,
    crossed_tetrahedra,
    free_count,
    free_positions,
    halved,
    node_positions,
    rows_of,
)

_REACH = 0.25  # cells along each axis; two nodes are at least 0.87 cells apart, and offsets are at most 0.43 long

Fraction = Annotated[float, Field(gt=0, lt=1)]


class Tets(GridSurface):
    """A signed distance on a tetrahedral grid: its surface can change its topology, and has no border.

    DMTet (Shen et al. 2021). Triangles come from marching tetrahedra, differentiable in the distances and in the nodes' places.
    Nodes move by offset = 0.25 cells tanh(parameter) along each axis, so that no two can meet. The colour is a field over space.
    A sphere of half the grid's width has about 15 000 triangles at a resolution of 32, and 60 000 at 64.
    """

    class Config(GridConfig):
        """The grid, what it starts as, and when it gets finer."""

        subdivide: tuple[Fraction, ...] = ()
        """Fractions of the run after which each cell becomes eight, increasing. The surface stays as it is."""

        @model_validator(mode="after")
        def _check(self) -> Tets.Config:
            finest = self.resolution * 2 ** len(self.subdivide)
            if finest > FINEST:
                raise ValueError(
                    f"subdivide: {len(self.subdivide)} times makes {finest} cells of {self.resolution}, the most are {FINEST}; "
                    "write a smaller resolution, or fewer fractions"
                )
            if any(late <= early for early, late in pairwise(self.subdivide)):
                raise ValueError("subdivide: fractions must increase, as in [0.3, 0.6]")
            return self

    config: Config
    rest: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        count = free_count(config.resolution)
        self.sdf = nn.Parameter(torch.zeros(count))
        self.offsets = nn.Parameter(torch.zeros(count, 3))
        self.register_buffer("rest", free_positions(config.resolution, config.radius))

    @property
    def cells(self) -> int:
        """Cells along each axis, as they are now."""
        return cells_of(len(self.sdf))

    def shape_parameters(self) -> dict[str, list[nn.Parameter]]:
        """`geometry.sdf` and `geometry.offsets`."""
        return {"geometry.sdf": [self.sdf], "geometry.offsets": [self.offsets]}

    def lattice(self) -> Tensor:
        """Where the free nodes (R, 3) are without offsets. What they had at a subdivision has become part of this."""
        return self.rest

    def reset(self) -> None:
        """Puts the nodes where the grid has them."""
        self.offsets.zero_()

    def start_from(self, source: Geometry) -> None:
        """As `GridSurface`. The grid of a source of this class is refined to this resolution, but never made coarser."""
        super().start_from(source)
        while self.cells < self.config.resolution:
            for one in self._halve():
                one.parameter.data = one.values

    def fits(self, source: GridSurface) -> bool:
        """Whether another one's state can be copied: one of the grids is the other, subdivided."""
        ours, theirs = self.config, source.config
        few, many = sorted((ours.resolution, source.cells))
        return (ours.radius, ours.material) == (theirs.radius, theirs.material) and many in [few << k for k in range(8)]

    def end_step(self, progress: Progress, generator: torch.Generator) -> Sequence[Resized]:
        """Halves the cells where `subdivide` says so."""
        super().end_step(progress, generator)
        due = sum(fraction <= (progress.step + 1) / progress.total for fraction in self.config.subdivide)
        return self._halve() if self.cells < self.config.resolution << due else ()

    @torch.no_grad()
    def _halve(self) -> list[Resized]:
        """Puts a node in the middle of every edge. Offsets become part of the nodes' places, and start again from 0."""
        cells = self.cells
        place = self.rest + offset_of(self.offsets, self.cell)
        everywhere = torch.arange((cells + 1) ** 3 + cells**3, device=place.device)
        fixed = node_positions(everywhere, cells, self.config.radius).to(place)
        row = rows_of(everywhere, cells)
        free, index = (row >= 0)[:, None], row.clamp_min(0)
        values = torch.where(free, self.sdf[index, None], OUTSIDE * self.config.radius)
        nodes = torch.cat([torch.where(free, place[index], fixed), values], dim=-1)
        corners = (cells + 1) ** 3
        fine = halved(nodes[:corners].view(*[cells + 1] * 3, 4), nodes[corners:].view(*[cells] * 3, 4))
        found = torch.cat([part[1:-1, 1:-1, 1:-1].reshape(-1, 4) for part in fine])
        continued = _continued(row, cells)
        self.rest = found[:, :3].contiguous()
        fresh = torch.full_like(continued, -1)
        return [
            Resized(self.sdf, found[:, 3].contiguous(), continued),
            Resized(self.offsets, torch.zeros_like(self.rest), fresh),
        ]

    def allocate(self, shapes: Mapping[str, torch.Size]) -> None:
        """Makes the grid as fine as it was."""
        self.resize_rows(shapes)

    def extract(self) -> Extracted:
        """By marching tetrahedra."""

        def nodes(index: Tensor) -> tuple[Tensor, Tensor]:
            return rows(self.sdf, index), self.rest[index] + offset_of(rows(self.offsets, index), self.cell)

        return extract_tets(self.sdf.detach() < 0, nodes, self.cells, self.config.radius)


def offset_of(parameter: Tensor, cell: float) -> Tensor:
    """How far nodes (..., 3) are from their places, world units."""
    return cell * _REACH * torch.tanh(parameter)


def extract_tets(inside: Tensor, nodes: Callable[[Tensor], tuple[Tensor, Tensor]], cells: int, radius: float) -> Extracted:
    """The surface by marching tetrahedra. `inside` (R,): which free nodes are.

    nodes: rows (V, 2) of free nodes -> their distances (V, 2) and places (V, 2, 3), with gradients.
    """
    tetrahedra = crossed_tetrahedra(inside, cells)
    row = rows_of(tetrahedra, cells)
    within = (row >= 0) & inside[row.clamp_min(0)]
    edges, faces = marching_tetrahedra(tetrahedra, within, (cells + 1) ** 3 + cells**3)
    row = rows_of(edges, cells)
    free = row >= 0
    distance, place = nodes(row.clamp_min(0))
    values = torch.where(free, distance, OUTSIDE * radius)
    fixed = node_positions(edges, cells, radius).to(place)
    corners = crossings(values, torch.where(free[..., None], place, fixed), SMALLEST * 2 * radius / cells)
    return Extracted(Triangles(corners, faces), values)


def _continued(row: Tensor, cells: int) -> Tensor:
    """For each free node of the finer grid the row of the old node in its place, or -1. `row`: those of all old nodes."""
    corners = (cells + 1) ** 3
    fine = row.new_full([2 * cells + 1] * 3, -1)
    fine[::2, ::2, ::2] = row[:corners].view(*[cells + 1] * 3)
    fine[1::2, 1::2, 1::2] = row[corners:].view(*[cells] * 3)
    return F.pad(fine[1:-1, 1:-1, 1:-1].reshape(-1), [0, (2 * cells - 2) ** 3], value=-1)
