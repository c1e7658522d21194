"""A signed distance that is a network over space, whose surface is extracted on a tetrahedral grid in every step.

Legend: R free nodes of the grid (see `tet_grid`); K nodes at the ends of the edges that the surface crosses.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .encodings import EncodingConfig, make_encoding
from .fitting import draw_rows, fit
from .grid_surface import GridConfig, GridSurface, ellipsoid_distance, rows
from .hash_grid import HashGridConfig
from .kept_surface import Extracted
from .networks import MLP, NetworkConfig
from .tet_grid import free_positions
from .tets import extract_tets, offset_of

_CHUNK = 2**18  # nodes that are asked for their sign at once, which bounds the memory
_NEAR = 0.05  # half-widths: the unit of errors of a fit; half of its nodes lie within three of them


class TetField(GridSurface):
    """A surface as of `tets`, with distances and offsets that are a network over space instead of parameters of the nodes.

    f(x) = ellipsoid(x) + network(x), and offset = 0.25 cells tanh(network) along each axis. Fantasia3D (Chen et al. 2023,
    section 3.1) holds its shape like this. What a view asks for moves a whole neighbourhood, so an ellipsoid can become anything.
    Gradients flow through the K nodes at the surface only. The colour is a field over space.
    """

    class Config(GridConfig):
        """The grid, what it starts as, and what its distance is made of."""

        encoding: EncodingConfig = HashGridConfig()
        """Of the distance: `hash-grid`, `dense-grid` or `integrated-positional`, or a mapping with `type` and its fields."""
        network: NetworkConfig = NetworkConfig()
        """Network from features to distance and offsets."""

    config: Config
    rest: Tensor
    axes: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.encoding = make_encoding(config.encoding)
        self.network = MLP(self.encoding.width, 4, config.network.width, config.network.layers)
        self.register_buffer("rest", free_positions(config.resolution, config.radius), persistent=False)
        self.register_buffer("axes", torch.tensor(config.start_axes), persistent=False)  # a tuple to copy would wait

    @property
    def cells(self) -> int:
        """Cells along each axis."""
        return self.config.resolution

    def shape_parameters(self) -> dict[str, list[nn.Parameter]]:
        """`geometry.distance.encoding` (absent for sines) and `geometry.distance.network`."""
        grids = self.encoding.grid_parameters()
        stored = {id(one) for one in grids}
        rest = [one for part in (self.encoding, self.network) for one in part.parameters() if id(one) not in stored]
        return ({"geometry.distance.encoding": grids} if grids else {}) | {"geometry.distance.network": rest}

    def lattice(self) -> Tensor:
        """Where the free nodes (R, 3) are without offsets."""
        return self.rest

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the distance's encoding and network, which are small at first, and then the material."""
        self.encoding.initialise(generator)
        self.network.initialise(generator)
        with torch.no_grad():
            self.network.last.weight.mul_(0.1)  # its output is a length in this cube
        self.field.initialise(generator)

    def fits(self, source: GridSurface) -> bool:
        """Whether another one's state can be copied: all options are the same."""
        return self.config == source.config

    def set_distances(self, distance: Tensor) -> None:
        """Fits distances (R,) at the free nodes, and offsets of 0, by least squares. Half of the nodes are near the surface."""
        generator = torch.Generator().manual_seed(0)  # the nodes do not depend on the run's seed
        unit = _NEAR * self.config.radius
        near = (distance.abs() < 3 * unit + self.cell).nonzero()[:, 0]

        def error() -> Tensor:
            drawn = [draw_rows(len(distance), generator, distance.device), near[draw_rows(len(near), generator, near.device)]]
            chosen = torch.cat(drawn)
            found, offset = self._at(self.rest[chosen])
            return ((found - distance[chosen]) / unit).square().mean() + offset.square().mean()

        fit([one for group in self.shape_parameters().values() for one in group], error)

    def extract(self) -> Extracted:
        """By marching tetrahedra."""
        with torch.no_grad():
            inside = torch.cat([self._at(part)[0] < 0 for part in torch.split(self.rest, _CHUNK)])

        def nodes(index: Tensor) -> tuple[Tensor, Tensor]:
            used, place = torch.unique(index, return_inverse=True)
            distance, offset = self._at(self.rest[used])
            moved = self.rest[used] + offset_of(offset, self.cell)
            return rows(distance, place), rows(moved, place)

        return extract_tets(inside, nodes, self.cells, self.config.radius)

    def _at(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The distance (N,) at points (N, 3), world units, and what the offset (N, 3) is made of."""
        raw = self.network(self.encoding((points / self.config.radius + 1) / 2)).to(points.dtype)
        return ellipsoid_distance(points, self.axes.to(points)) + raw[:, 0], raw[:, 1:]
