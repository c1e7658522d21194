"""What surfaces have in common that are extracted from a signed distance on a grid in every step."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated

import torch
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
    mesh_distance,
    points_on,
    shape_of,
)

from .kept_surface import Extracted, KeptSurface
from .material_field import MaterialField

log = logging.getLogger("dfw.geometry")

FINEST = 256  # cells; 33 million nodes of a tetrahedral grid, whose parameters and Adam's state take 1.6 GB
OUTSIDE = 0.05  # half-widths: the distance at fixed nodes, on the border
SMALLEST = 1e-6  # cells: values at an edge's ends that differ by less count as that far apart
_NEAREST = 0.01  # cells: a distance that starts closer to 0 would collapse a triangle
_COLOURS = 100_000  # points that colours are taken over at; `MaterialField.fit` says what fewer cost
_COARSEST = 64  # cells of the grid that a source's surface is found on; its distance is then sampled on the own grid


class GridConfig(ComponentConfig):
    """The grid, and what it starts as."""

    radius: PositiveFloat = 1.0
    """Half-width of the grid, world units."""
    resolution: Annotated[int, Field(ge=4, le=FINEST)] = 64
    """Cells along each axis at the start. Triangles are four times as many with twice as many cells."""
    start_axes: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.5, 0.5, 0.5)
    """Semi-axes of the ellipsoid that it starts as, along x, y and z, world units; equal for a sphere."""
    material: MaterialField.Config = MaterialField.Config()
    """What the surface is made of."""

    @model_validator(mode="after")
    def _fits(self) -> GridConfig:
        room = self.radius * (1 - 2 / self.resolution)
        if max(self.start_axes) > room:
            raise ValueError(f"start_axes: {max(self.start_axes):g} does not fit the grid; write at most {room:.3g}")
        return self


class GridSurface(Surface):
    """A surface between nodes of a grid in the cube [-radius, radius]^3 that are inside (distance below 0) and outside.

    Nodes on the border are fixed and lie outside, so a surface has no border. Subclasses set `sdf`, the distances of the R free
    nodes, or override `set_distances`; and `shape_parameters`, all that the triangles depend on.
    """

    config: GridConfig
    sdf: nn.Parameter

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        self.config = config
        self.field = MaterialField(config.material, config.radius)
        self._kept = KeptSurface()
        self._step = 0

    @classmethod
    def provides(cls, config: GridConfig) -> frozenset[str]:
        """Provides triangles with a material, and values on a grid."""
        shiny = {"roughness", "metallic"} if config.material.pbr else set()
        return frozenset({"surface", "signed-grid", "albedo", *shiny})

    @property
    @abstractmethod
    def cells(self) -> int:
        """Cells along each axis, as they are now."""

    @property
    def cell(self) -> float:
        """A cell's side, world units."""
        return 2 * self.config.radius / self.cells

    @abstractmethod
    def shape_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Group -> the parameters that the triangles depend on."""

    @abstractmethod
    def lattice(self) -> Tensor:
        """Where the free nodes (R, 3) are without offsets."""

    def reset(self) -> None:
        """Sets the parameters of the shape, except the distances, to those of a regular grid. Without gradients."""

    @abstractmethod
    def extract(self) -> Extracted:
        """The surface as it is now; without triangles where no node is inside."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Those of the shape (`geometry.sdf`: distances, world units), and those of the material, as of `MaterialField`."""
        return {**self.shape_parameters(), **self.field.parameter_groups("geometry")}

    def initialise(self, generator: torch.Generator) -> None:
        """Sets the ellipsoid, and draws the material."""
        at = self.lattice()
        self.set_distances(ellipsoid_distance(at, torch.tensor(self.config.start_axes, dtype=at.dtype, device=at.device)))
        self.field.initialise(generator)

    def start_from(self, source: Geometry) -> None:
        """Takes over the shape of any density field or surface, and its colours.

        What lies outside of the grid is cut off, and the cut is closed. A source of the same class is copied where grid and
        material fit. Raises ConfigError where nothing of the shape is inside.
        """
        if type(source) is type(self) and self.fits(source):
            state = source.state_dict()
            self.allocate({name: tensor.shape for name, tensor in state.items()})
            self.load_state_dict(state)
            return
        shape = shape_of(source, max(self.cells, _COARSEST))
        reach, holds = abs(shape.mesh.vertices).max(), self.config.radius - self.cell
        if reach > holds:
            log.warning(
                "%s reaches %.3g from the centre along an axis, and the grid of %s holds %.3g: what is outside of it is cut off; "
                "write a larger geometry.radius",
                *(source.dfw_name or type(source).__name__, reach, self.dfw_name or "geometry", holds),
            )
        self.set_distances(mesh_distance(shape.mesh, self.lattice()))
        generator = torch.Generator().manual_seed(0)  # the points do not depend on the run's seed
        with torch.no_grad():
            found = self.surface()
            points = points_on(found.vertices, found.faces, _COLOURS, generator)
        self.field.fit(shape.colour, points, generator)

    def fits(self, source: GridSurface) -> bool:
        """Whether another one's state can be copied."""
        ours, theirs = self.config, source.config
        return (ours.radius, ours.material, self.cells) == (theirs.radius, theirs.material, source.cells)

    @torch.no_grad()
    def set_distances(self, distance: Tensor) -> None:
        """Sets the distances (R,), none of them too close to 0, on a regular grid."""
        least = _NEAREST * self.cell
        self.sdf.copy_(torch.where(distance.abs() < least, least, distance))
        self.reset()

    def begin_step(self, progress: Progress, generator: torch.Generator) -> None:
        """Remembers the step, for messages."""
        self._step = progress.step
        self._kept.forget()

    def end_step(self, progress: Progress, generator: torch.Generator) -> Sequence[Resized]:
        """Lets go of the step's surface."""
        self._kept.forget()
        return ()

    def surface(self) -> Triangles:
        """The closed triangles; waits for the device. Raises DivergedError in training if there are none."""
        return self._extracted().triangles

    def crossings(self) -> Tensor:
        """For `signed-grid`: the distances (K, 2) at both ends of each edge that the surface crosses; the first is inside."""
        return self._extracted().ends

    def material(self, at: SurfacePoints) -> Material:
        """As `MaterialField`, at the points' positions."""
        found: Material = self.field(at.position)
        return found

    def _extracted(self) -> Extracted:
        if not self.training:
            return self.extract()
        groups = self.shape_parameters()
        found = self._kept.of([one for group in groups.values() for one in group], self.extract)
        if not len(found.ends):
            raise DivergedError(
                f"{self.dfw_name or 'geometry'}: the surface has vanished by step {self._step}, since no distance is below 0 any "
                f"more; try a lower optimizer.groups.{next(iter(groups))}.lr, or lower weights of what shrinks it (opacity, "
                "laplacian)"
            )
        self.log("triangles", len(found.triangles.faces))
        return found


def rows(values: Tensor, index: Tensor) -> Tensor:
    """values[index]; the gradients of `index_select` are summed in a fixed order on a CPU, those of indexing are not."""
    return values.index_select(0, index.flatten()).view(*index.shape, *values.shape[1:])


def ellipsoid_distance(points: Tensor, axes: Tensor) -> Tensor:
    """About the signed distance (P,) of `points` (P, 3) to an ellipsoid of semi-axes (3,): exact for spheres.

    k (k - 1) / |x / a^2| with k = |x / a|: right on the surface and, to first order, near it.
    """
    k = (points / axes).norm(dim=-1)
    slope = (points / axes.square()).norm(dim=-1)
    return torch.where(slope > 0, k * (k - 1) / slope.clamp_min(1e-12), -axes.min())
