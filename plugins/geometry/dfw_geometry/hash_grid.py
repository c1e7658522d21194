"""Multi-resolution hash grid. Instant-NGP (Mueller et al. 2022). Its fast path is `fast.hash_grid`; the twin is plain torch.

Legend: N points, L levels, F features per level, E table rows of all levels together.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from dfw import ComponentConfig

from .base_encoding import Encoding
from .fast import hash_grid as fast
from .networks import draw_uniform

_PRIMES = (1, 2654435761, 805459861)  # the paper's, below eq. 4; the kernels in `fast` hold the same


class HashGridConfig(ComponentConfig):
    """Multi-resolution hash grid. Instant-NGP (Mueller et al. 2022), section 3."""

    type: Literal["hash-grid"] = "hash-grid"
    levels: PositiveInt = 8
    """Number of grids."""
    features: Annotated[int, Field(ge=1, le=8)] = 4
    """Numbers stored per vertex."""
    log2_size: Annotated[int, Field(ge=4, le=24)] = 16
    """Binary logarithm of a level's largest table."""
    base: Annotated[int, Field(ge=2)] = 16
    """Cells per side of the coarsest level."""
    finest: Annotated[int, Field(le=16384)] = 256
    """Cells per side of the finest level; levels between grow geometrically."""

    @model_validator(mode="after")
    def _ordered(self) -> HashGridConfig:
        if self.finest < self.base:
            raise ValueError(f"finest ({self.finest}) is below base ({self.base}); write base <= finest")
        return self


def grid_layout(config: HashGridConfig) -> Tensor:
    """(L, 4) int32: each level's cells per side, first row, rows - 1, and vertices per side if it is stored densely, else 0.

    N_l = floor(N_min b^l) with b = exp((ln N_max - ln N_min)/(L - 1)), eqs. 2 and 3. A level whose (N_l + 1)^3 vertices fit its
    table has one row for each; others are hashed.
    """
    growth = math.exp(math.log(config.finest / config.base) / max(config.levels - 1, 1))
    rows, first = [], 0
    for level in range(config.levels):
        cells = math.floor(config.base * growth**level + 1e-6)  # where the power is whole, rounding must not lose a cell
        size, vertices = 1 << config.log2_size, (cells + 1) ** 3
        dense = vertices <= size
        size = vertices if dense else size
        rows.append([cells, first, size - 1, cells + 1 if dense else 0])
        first += size
    return torch.tensor(rows, dtype=torch.int32)


def hash_grid_twin(points: Tensor, table: Tensor, layout: Tensor) -> Tensor:
    """The encoding in plain torch, the twin of `fast.hash_grid.encode`: points (N, 3) in [0, 1], table (E, F), layout (L, 4).

    Returns (N, L, F). Any device and float type; differentiable any number of times.
    """
    parts = []
    bits = (torch.arange(8, device=points.device)[:, None] >> torch.arange(3, device=points.device)) & 1
    for cells, first, mask, stride in layout.tolist():
        scaled = points * cells
        corner = scaled.detach().long().clamp(0, cells - 1)
        fraction = scaled - corner
        total = points.new_zeros(points.shape[0], table.shape[1])
        for c in range(8):
            x, y, z = (corner + bits[c]).unbind(-1)
            hashed = (x ^ (y * _PRIMES[1]) ^ (z * _PRIMES[2])) & mask
            row = x + stride * (y + stride * z) if stride else hashed
            weight = torch.where(bits[c].bool(), fraction, 1 - fraction).prod(-1, keepdim=True)
            total = total + weight * table[first + row]
        parts.append(total)
    return torch.stack(parts, dim=1)


class HashGrid(Encoding):
    """Trilinear features of L grids whose vertices share hashed table rows. Continuous; its gradient jumps between cells."""

    layout: Tensor

    def __init__(self, config: HashGridConfig) -> None:
        super().__init__()
        self.levels, self.width = config.levels, config.levels * config.features
        layout = grid_layout(config)
        self.register_buffer("layout", layout, persistent=False)
        self.table = nn.Parameter(torch.zeros(int(layout[-1, 1] + layout[-1, 2]) + 1, config.features))

    def initialise(self, generator: torch.Generator) -> None:
        """U(-1e-4, 1e-4) for every row, as in the paper."""
        draw_uniform(self.table, 1e-4, generator)

    def forward(self, points: Tensor, level_weights: Tensor | None = None) -> Tensor:
        """As `Encoding`."""
        if fast.serves(points, self.table):
            features = fast.encode(points.contiguous(), self.table, self.layout)
        else:
            features = hash_grid_twin(points, self.table, self.layout)
        if level_weights is not None:
            features = features * level_weights[:, None]
        return features.flatten(1)

    def pullback(self, points: Tensor, upstream: Tensor, level_weights: Tensor | None = None) -> Tensor:
        """As `Encoding`, without a second pass through the grid."""
        if not fast.serves(points, self.table):
            return super().pullback(points, upstream, level_weights)
        upstream = upstream.view(points.shape[0], self.levels, self.table.shape[1])
        if level_weights is not None:
            upstream = upstream * level_weights[:, None]
        return fast.input_gradient(points.contiguous(), self.table, upstream.float().contiguous(), self.layout)

    def grid_parameters(self) -> list[nn.Parameter]:
        """The table."""
        return [self.table]
