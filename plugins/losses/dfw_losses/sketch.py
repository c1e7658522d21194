"""A coarse mesh says where matter is, but not how its surface looks. Sketch-Shape (Metzer et al. 2023, section 3.3).

Legend: P points, n nodes along an axis of a grid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from dfw import (
    ComponentConfig,
    ConfigError,
    DensityField,
    LocalPath,
    Loss,
    LossInputs,
    LossSetup,
    Mesh,
    MeshSource,
    mesh_distance,
)

_SURE = 0.01  # the mesh's occupancy is this far from 0 and 1, as in the authors' code, so that its logarithm is finite


class Sketch(Loss):
    """Mean over points of the scene's cube of H(a, a') (1 - exp(-d^2 / (2 s^2))), d the distance to the mesh's surface.

    a = 1 - exp(-density * step) is the field's occupancy. a' is the mesh's, 0.99 inside and 0.01 outside, and
    H(a, a') = -a log a' - (1 - a) log (1 - a') is the cross entropy. So the field is free near the surface, where a guidance
    shapes it. This is Sketch-Shape's loss (Metzer et al. 2023), in the order of the authors' code, which sums over the samples of
    its rays. Inside is where the mesh winds around a point, so that parts may overlap and small holes do not matter.

    The file is read once. The distance is kept on a grid, and interpolated.
    """

    class Config(ComponentConfig):
        """The mesh, where it stands, and how far from its surface the field is free."""

        mesh: LocalPath
        """A closed mesh (OBJ, GLB, glTF, PLY, STL), such as a few boxes. It may be deleted after the first step."""
        up: Literal["x", "y", "z", "-x", "-y", "-z"] | None = None
        """The file's axis that points up; none: z for PLY and STL, as dfw writes them, and y for others, as in glTF."""
        front: Literal["x", "y", "z", "-x", "-y", "-z"] | None = None
        """The file's axis that points to the front; none: x for PLY and STL, and z for others."""
        radius: PositiveFloat | None = 0.9
        """World units of the ball around the origin that the mesh is moved and scaled into; none: it keeps its size and place."""
        deviation: PositiveFloat = 0.25
        """s, world units: how far from the surface the field begins to be held to the mesh. The authors' code has
        0.25, for a mesh of 0.6."""
        step: PositiveFloat = 0.2
        """World units of matter that an occupancy is of; a density of 5 / step is as good as solid."""
        points: PositiveInt = 8192
        """Random points of each step."""
        cells: Annotated[int, Field(ge=8, le=256)] = 64
        """Cells along each axis of the grid that holds the distance."""

        def source(self) -> MeshSource:
            """Reads the mesh."""
            return MeshSource(Path(self.mesh), self.up, self.front, self.radius)

        def check_files(self) -> None:
            """Reads the mesh."""
            self.source()

    config: Config
    distance: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("distance", torch.zeros(config.cells + 1, config.cells + 1, config.cells + 1))

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """A density over space."""
        return frozenset({"density-field"})

    @torch.no_grad()
    def bind(self, setup: LossSetup) -> None:
        """Reads the mesh, in a new run. Raises ConfigError for a file without a closed mesh in the scene's cube."""
        if setup.resumed:
            return
        config, field = self.config, _field(setup.geometry)
        source = config.source()
        mesh = Mesh(source.vertices.double().numpy(), source.faces.numpy())
        axis = torch.linspace(-field.radius, field.radius, config.cells + 1, device=self.distance.device)
        nodes = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
        try:
            found = mesh_distance(mesh, nodes.view(-1, 3))
        except ConfigError as error:
            raise ConfigError(f"{config.mesh}: {error}") from error
        self.distance.copy_(found.view_as(self.distance))

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar >= 0, with gradients to the field. The points are drawn from `inputs.generator`."""
        config, field, generator = self.config, _field(inputs.geometry), inputs.generator
        drawn = torch.rand(config.points, 3, generator=generator, device=generator.device).to(self.distance)
        points = field.radius * (2 * drawn - 1)
        return self.at(field, points)

    def at(self, field: DensityField, points: Tensor) -> Tensor:
        """The loss at `points` (P, 3) of the cube, world units: a scalar."""
        distance = self._distance(points / field.radius)
        matter = -torch.expm1(-field.density(points) * self.config.step)
        inside = torch.where(distance < 0, 1 - _SURE, _SURE)
        crossed = -matter * inside.log() - (1 - matter) * (1 - inside).log()
        return (crossed * -torch.expm1(-distance.square() / (2 * self.config.deviation**2))).mean()

    def _distance(self, place: Tensor) -> Tensor:
        """The distance (P,) at `place` (P, 3) in [-1, 1], interpolated between nodes."""
        grid = self.distance.permute(2, 1, 0)[None, None]  # grid_sample has the last axis first
        found = F.grid_sample(grid, place.view(1, -1, 1, 1, 3), mode="bilinear", align_corners=True)
        return found.view(-1)


def _field(geometry: Any) -> DensityField:
    if not isinstance(geometry, DensityField):
        raise ConfigError(
            f"the loss 'sketch' holds a density to a mesh, and {type(geometry).__name__} is not a DensityField; "
            "choose a geometry such as dreamfw/nerf"
        )
    return geometry
