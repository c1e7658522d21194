"""A signed distance on a grid of cubes, whose dual surface is extracted in every step.

Legend: n cells along each axis; R = (n - 1)^3 free corners; M, V, Q as in `dual_cubes`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfw import Triangles

from .dual_cubes import DualSurface, dual_surface, with_centres
from .grid_surface import OUTSIDE, SMALLEST, GridConfig, GridSurface, rows
from .kept_surface import Extracted
from .marching_tets import crossings

_REACH = 0.45  # cells along each axis: less than a half, so that no two corners meet
_RANGE = 0.99  # weights lie in (0.01, 1.99): one of 0 would leave a vertex without a place


class FlexiCubes(GridSurface):
    """A signed distance on a grid of cubes, with weights that let the surface's vertices move freely inside of their cubes.

    FlexiCubes (Shen et al. 2023): dual marching cubes, with weights alpha of each cube's corners, beta of its edges and gamma of
    the cube. Its surface follows creases better than that of `tets`, with more even triangles, and has no border. Two parts of it
    may intersect. Corners move by offset = 0.45 cells tanh(parameter) along each axis. The colour is a field over space. A sphere
    of half the grid's width has about 7 000 triangles at a resolution of 32, and 28 000 at 64.
    """

    Config = GridConfig

    def __init__(self, config: GridConfig) -> None:
        super().__init__(config)
        n = config.resolution
        self.sdf = nn.Parameter(torch.zeros((n - 1) ** 3))
        self.offsets = nn.Parameter(torch.zeros((n - 1) ** 3, 3))
        self.weights = nn.Parameter(torch.zeros(n**3, 21))

    @property
    def cells(self) -> int:
        """Cells along each axis."""
        return self.config.resolution

    def shape_parameters(self) -> dict[str, list[nn.Parameter]]:
        """`geometry.sdf`, `geometry.offsets`, and `geometry.weights`: 8 alpha, 12 beta and gamma of each cube."""
        return {"geometry.sdf": [self.sdf], "geometry.offsets": [self.offsets], "geometry.weights": [self.weights]}

    def lattice(self) -> Tensor:
        """Where the free corners (R, 3) are without offsets."""
        axis = torch.linspace(-1, 1, self.cells + 1)[1:-1] * self.config.radius
        at = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).view(-1, 3)
        return at.to(self.sdf)

    def reset(self) -> None:
        """Puts the corners where the grid has them, and makes all weights 1."""
        self.offsets.zero_()
        self.weights.zero_()

    def extract(self) -> Extracted:
        """By dual marching cubes.

        A crossing is that of alpha times the distance, and a vertex is the mean of its edges' crossings, weighted by beta.
        """
        n = self.cells
        inside = F.pad((self.sdf.detach() < 0).view(*[n - 1] * 3), [1] * 6)
        dual = dual_surface(inside)
        weight = 1 + _RANGE * torch.tanh(rows(self.weights[:, :20], dual.cube))
        alpha = weight[:, :8].gather(1, dual.corners)
        beta = weight[:, 8:].gather(1, dual.edge[:, None])
        found = crossings(alpha * self._values(dual.nodes), self._places(dual.nodes), SMALLEST * self.cell)
        share = beta.new_zeros(dual.vertices, 1).index_add(0, dual.vertex, beta)
        vertices = beta.new_zeros(dual.vertices, 3).index_add(0, dual.vertex, beta * found) / share
        corners, faces = with_centres(vertices, dual.quads, self._gamma(dual))
        return Extracted(Triangles(corners, faces), self._values(dual.crossed))

    def _gamma(self, dual: DualSurface) -> Tensor:
        """The weight (V,) of each vertex's cube, in (0.005, 0.995)."""
        cube = dual.cube.new_zeros(dual.vertices).scatter(0, dual.vertex, dual.cube)
        return 0.005 + _RANGE * torch.sigmoid(rows(self.weights[:, 20], cube))

    def _rows(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Which corners (...) are free, and their rows among these."""
        side, n = self.cells + 1, self.cells
        at = torch.stack([nodes // side**2, nodes // side % side, nodes % side], dim=-1)
        free = ((at > 0) & (at < n)).all(-1)
        x, y, z = (at - 1).clamp(0, n - 2).unbind(-1)
        return free, (x * (n - 1) + y) * (n - 1) + z

    def _values(self, nodes: Tensor) -> Tensor:
        free, row = self._rows(nodes)
        return torch.where(free, rows(self.sdf, row), OUTSIDE * self.config.radius)

    def _places(self, nodes: Tensor) -> Tensor:
        side = self.cells + 1
        at = torch.stack([nodes // side**2, nodes // side % side, nodes % side], dim=-1)
        free, row = self._rows(nodes)
        moved = self.cell * _REACH * torch.tanh(rows(self.offsets, row))
        return (at * self.cell - self.config.radius).to(moved) + torch.where(free[..., None], moved, 0)
