"""A signed distance on a tetrahedral grid, whose surface is extracted in every step.

Legend: n cells along each axis; R free nodes of the grid (see `tet_grid`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor, nn

from dfw import (
    ComponentConfig,
    DivergedError,
    Geometry,
    Material,
    Progress,
    Resized,
    Surface,
    SurfacePoints,
    Triangles,
    shape_of,
)

from .kept_surface import Extracted, KeptSurface
from .marching_tets import crossings, marching_tetrahedra
from .material_field import MaterialField
from .mesh_distance import mesh_distance, points_on
from .tet_grid import (
    cells_of,
    crossed_tetrahedra,
    free_count,
    free_positions,
    halved,
    node_positions,
    rows_of,
)

log = logging.getLogger("dfw.geometry")

_FINEST = 256  # cells; 33 million nodes, whose parameters and Adam's state take 1.6 GB
_REACH = 0.25  # cells along each axis; two nodes are at least 0.87 cells apart, and offsets are at most 0.43 long
_OUTSIDE = 0.05  # half-widths: the distance at fixed nodes
_NEAREST = 0.01  # cells: a distance that starts closer to 0 would collapse a triangle
_SMALLEST = 1e-6  # cells: values at an edge's ends that differ by less count as that far apart
_COLOURS = 100_000  # points that colours are taken over at; `MaterialField.fit` says what fewer cost

Fraction = Annotated[float, Field(gt=0, lt=1)]


class Tets(Surface):
    """A signed distance on a tetrahedral grid: its surface can change its topology, and has no border.

    DMTet (Shen et al. 2021). Triangles come from marching tetrahedra, differentiable in the distances and in the nodes' places.
    The colour is a field over space. Nodes move by offset = 0.25 cells tanh(parameter) along each axis, so that no two can meet.
    The grid fills the cube [-radius, radius]^3, and the surface closes inside of it.
    """

    class Config(ComponentConfig):
        """The grid, what it starts as, and when it gets finer."""

        radius: PositiveFloat = 1.0
        """Half-width of the grid, world units."""
        resolution: Annotated[int, Field(ge=4, le=_FINEST)] = 64
        """Cells along each axis at the start. A sphere of half the width has about 15 000 triangles at 32, 60 000 at 64."""
        start_axes: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.5, 0.5, 0.5)
        """Semi-axes of the ellipsoid that it starts as, along x, y and z, world units; equal for a sphere."""
        subdivide: tuple[Fraction, ...] = ()
        """Fractions of the run after which each cell becomes eight, increasing. The surface stays as it is."""
        material: MaterialField.Config = MaterialField.Config()
        """What the surface is made of."""

        @model_validator(mode="after")
        def _check(self) -> Tets.Config:
            finest = self.resolution * 2 ** len(self.subdivide)
            if finest > _FINEST:
                raise ValueError(
                    f"subdivide: {len(self.subdivide)} times makes {finest} cells of {self.resolution}, the most are {_FINEST}; "
                    "write a smaller resolution, or fewer fractions"
                )
            if any(late <= early for early, late in pairwise(self.subdivide)):
                raise ValueError("subdivide: fractions must increase, as in [0.3, 0.6]")
            room = self.radius * (1 - 2 / self.resolution)
            if max(self.start_axes) > room:
                raise ValueError(f"start_axes: {max(self.start_axes):g} does not fit the grid; write at most {room:.3g}")
            return self

    config: Config
    rest: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        rows = free_count(config.resolution)
        self.sdf = nn.Parameter(torch.zeros(rows))
        self.offsets = nn.Parameter(torch.zeros(rows, 3))
        self.register_buffer("rest", free_positions(config.resolution, config.radius))
        self.field = MaterialField(config.material, config.radius)
        self._kept = KeptSurface()
        self._step = 0

    @classmethod
    def provides(cls, config: Config) -> frozenset[str]:
        """Provides triangles with a material, and values on a grid."""
        shiny = {"roughness", "metallic"} if config.material.pbr else set()
        return frozenset({"surface", "signed-grid", "albedo", *shiny})

    @property
    def cells(self) -> int:
        """Cells along each axis, as they are now."""
        return cells_of(len(self.sdf))

    @property
    def _cell(self) -> float:
        return 2 * self.config.radius / self.cells

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """`geometry.sdf`: distances, world units; `geometry.offsets`; those of the material, as of `MaterialField`."""
        return {"geometry.sdf": [self.sdf], "geometry.offsets": [self.offsets], **self.field.parameter_groups("geometry")}

    def initialise(self, generator: torch.Generator) -> None:
        """Sets the ellipsoid, and draws the material."""
        axes = torch.tensor(self.config.start_axes, dtype=self.rest.dtype, device=self.rest.device)
        self._set(_ellipsoid_distance(self.rest, axes))
        self.field.initialise(generator)

    def start_from(self, source: Geometry) -> None:
        """Takes over the shape of any density field or surface, and its colours.

        What lies outside of the grid is cut off, and the cut is closed. A source of this class is copied where grid and material
        fit; its grid is refined, but never made coarser. Raises ConfigError where nothing of the shape is inside.
        """
        if isinstance(source, Tets) and self._fits(source):
            self.allocate({name: tensor.shape for name, tensor in source.state_dict().items()})
            self.load_state_dict(source.state_dict())
            while self.cells < self.config.resolution:
                for one in self._halve():
                    one.parameter.data = one.values
            return
        cells = max(self.config.resolution, 64)
        shape = shape_of(source, cells)
        reach = abs(shape.mesh.vertices).max()
        if reach > self.config.radius - self._cell:
            log.warning(
                "%s reaches %.3g from the centre along an axis, and the grid of %s holds %.3g: what is outside of it is cut off; "
                "write a larger geometry.radius",
                *(source.dfw_name or type(source).__name__, reach, self.dfw_name or "geometry", self.config.radius - self._cell),
            )
        self._set(mesh_distance(shape.mesh, self.rest))
        generator = torch.Generator().manual_seed(0)  # which points are taken is no chance of the run
        with torch.no_grad():
            found = self.surface()
            points = points_on(found.vertices, found.faces, _COLOURS, generator)
        self.field.fit(shape.colour, points, generator)

    def _fits(self, source: Tets) -> bool:
        ours, theirs = self.config, source.config
        few, many = sorted((ours.resolution, source.cells))
        return (ours.radius, ours.material) == (theirs.radius, theirs.material) and many in [few << k for k in range(8)]

    @torch.no_grad()
    def _set(self, distance: Tensor) -> None:
        """Sets the distances (R,), none of them too close to 0, and puts the nodes where the lattice has them."""
        least = _NEAREST * self._cell
        self.sdf.copy_(torch.where(distance.abs() < least, least, distance))
        self.offsets.zero_()

    def begin_step(self, progress: Progress, generator: torch.Generator) -> None:
        """Remembers the step, for messages."""
        self._step = progress.step
        self._kept.forget()

    def end_step(self, progress: Progress, generator: torch.Generator) -> Sequence[Resized]:
        """Halves the cells where `subdivide` says so."""
        self._kept.forget()
        due = sum(fraction <= (progress.step + 1) / progress.total for fraction in self.config.subdivide)
        return self._halve() if self.cells < self.config.resolution << due else ()

    @torch.no_grad()
    def _halve(self) -> list[Resized]:
        """Puts a node in the middle of every edge. Offsets become part of the nodes' places, and start again from 0."""
        cells = self.cells
        place = self.rest + self._cell * _REACH * torch.tanh(self.offsets)
        everywhere = torch.arange((cells + 1) ** 3 + cells**3, device=place.device)
        lattice = node_positions(everywhere, cells, self.config.radius).to(place)
        rows = rows_of(everywhere, cells)[:, None]
        values = torch.where(rows < 0, _OUTSIDE * self.config.radius, self.sdf[rows.clamp_min(0)])
        nodes = torch.cat([torch.where(rows < 0, lattice, place[rows[:, 0].clamp_min(0)]), values], dim=-1)
        corners = (cells + 1) ** 3
        fine = halved(nodes[:corners].view(*[cells + 1] * 3, 4), nodes[corners:].view(*[cells] * 3, 4))
        free = torch.cat([part[1:-1, 1:-1, 1:-1].reshape(-1, 4) for part in fine])
        index = self._continued(rows[:, 0], cells)
        self.rest = free[:, :3].contiguous()
        fresh = torch.full_like(index, -1)
        return [Resized(self.sdf, free[:, 3].contiguous(), index), Resized(self.offsets, torch.zeros_like(self.rest), fresh)]

    def _continued(self, rows: Tensor, cells: int) -> Tensor:
        """For each free node of the finer grid the row of the old node in its place, or -1. `rows`: those of all old nodes."""
        corners = (cells + 1) ** 3
        fine = rows.new_full([2 * cells + 1] * 3, -1)
        fine[::2, ::2, ::2] = rows[:corners].view(*[cells + 1] * 3)
        fine[1::2, 1::2, 1::2] = rows[corners:].view(*[cells] * 3)
        return F.pad(fine[1:-1, 1:-1, 1:-1].reshape(-1), [0, (2 * cells - 2) ** 3], value=-1)

    def allocate(self, shapes: Mapping[str, torch.Size]) -> None:
        """Makes the grid as fine as it was."""
        self.resize_rows(shapes)

    def surface(self) -> Triangles:
        """The closed triangles; waits for the device. Raises DivergedError in training if there are none."""
        return self._extracted().triangles

    def crossings(self) -> Tensor:
        """For `signed-grid`: the distances (V, 2) at both ends of each edge that the surface crosses; the first is inside."""
        return self._extracted().ends

    def material(self, at: SurfacePoints) -> Material:
        """As `MaterialField`, at the points' positions."""
        return self.field(at.position)

    def _extracted(self) -> Extracted:
        return self._kept.of([self.sdf, self.offsets], self._extract) if self.training else self._extract()

    def _extract(self) -> Extracted:
        cells, radius = self.cells, self.config.radius
        inside = self.sdf.detach() < 0
        tetrahedra = crossed_tetrahedra(inside, cells)
        if self.training and not len(tetrahedra):
            raise DivergedError(
                f"{self.dfw_name or 'geometry'}: the surface has vanished by step {self._step}, since no distance is below 0 any "
                "more; try a lower optimizer.groups.geometry.sdf.lr, or lower weights of what shrinks it (opacity, laplacian)"
            )
        within = on_nodes(inside, rows_of(tetrahedra, cells))
        edges, faces = marching_tetrahedra(tetrahedra, within, (cells + 1) ** 3 + cells**3)
        rows = rows_of(edges, cells)
        free, index = rows >= 0, rows.clamp_min(0)
        values = torch.where(free, _rows(self.sdf, index), _OUTSIDE * radius)
        moved = self.rest[index] + self._cell * _REACH * torch.tanh(_rows(self.offsets, index))
        lattice = node_positions(edges, cells, radius).to(moved)
        if self.training:
            self.log("triangles", len(faces))
        corners = crossings(values, torch.where(free[..., None], moved, lattice), _SMALLEST * self._cell)
        return Extracted(Triangles(corners, faces), values)


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """values[index]; the gradients of `index_select` are summed in a fixed order on a CPU, those of indexing are not."""
    return values.index_select(0, index.flatten()).view(*index.shape, *values.shape[1:])


def on_nodes(inside: Tensor, rows: Tensor) -> Tensor:
    """Whether the nodes of `rows` (...) are inside, by `inside` (R,) of the free ones; fixed nodes, of row -1, are not."""
    return (rows >= 0) & inside[rows.clamp_min(0)]


def _ellipsoid_distance(points: Tensor, axes: Tensor) -> Tensor:
    """About the signed distance (P,) of `points` (P, 3) to an ellipsoid of semi-axes (3,): exact for spheres.

    k (k - 1) / |x / a^2| with k = |x / a|: right on the surface and, to first order, near it.
    """
    k = (points / axes).norm(dim=-1)
    slope = (points / axes.square()).norm(dim=-1)
    return torch.where(slope > 0, k * (k - 1) / slope.clamp_min(1e-12), -axes.min())
