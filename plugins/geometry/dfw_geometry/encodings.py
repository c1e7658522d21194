"""Which encodings there are, and the two that are plain torch: dense grids, and sines with a network behind them.

Legend: N points, L levels (or frequencies), D width of the result.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from dfw import ComponentConfig

from .base_encoding import Encoding
from .hash_grid import HashGrid, HashGridConfig
from .networks import ResidualMLP, draw_uniform


class DenseGridConfig(ComponentConfig):
    """Several dense feature grids, interpolated trilinearly and joined."""

    type: Literal["dense-grid"] = "dense-grid"
    resolutions: Annotated[tuple[Annotated[int, Field(ge=2, le=512)], ...], Field(min_length=1)] = (16, 32, 64)
    """Vertices per side of each grid."""
    features: PositiveInt = 8
    """Numbers stored per vertex."""


class IntegratedPositionalConfig(ComponentConfig):
    """Integrated positional encoding followed by residual blocks, as in the DreamFusion paper (5 blocks of 128)."""

    type: Literal["integrated-positional"] = "integrated-positional"
    levels: Annotated[int, Field(ge=1, le=16)] = 8
    """Number of frequencies 1, 2, 4 ... in radians per scene half-width."""
    deviation: NonNegativeFloat = 0.01
    """Standard deviation of the isotropic Gaussian a point stands for, in scene half-widths; 0 is plain positional encoding."""
    blocks: Annotated[int, Field(ge=0)] = 5
    """Residual blocks."""
    width: PositiveInt = 128
    """Width of the blocks."""


def _expand(value: Any) -> Any:
    """`hash-grid` is short for `{type: hash-grid}`, and a mapping without `type` is a hash grid."""
    if isinstance(value, str):
        return {"type": value}
    return {"type": "hash-grid", **value} if isinstance(value, dict) else value


_Configs = Annotated[HashGridConfig | DenseGridConfig | IntegratedPositionalConfig, Field(discriminator="type")]
EncodingConfig = Annotated[
    _Configs,
    BeforeValidator(_expand, json_schema_input_type=Literal["hash-grid", "dense-grid", "integrated-positional"] | _Configs),
]
"""An encoding's name, or a mapping with its `type` and its fields."""


class DenseGrid(Encoding):
    """Multi-resolution dense grids with `grid_sample`: differentiable twice everywhere, heavier than the hash grid."""

    def __init__(self, config: DenseGridConfig) -> None:
        super().__init__()
        self.levels, self.width = len(config.resolutions), len(config.resolutions) * config.features
        self.grids = nn.ParameterList([nn.Parameter(torch.zeros(1, config.features, n, n, n)) for n in config.resolutions])

    def initialise(self, generator: torch.Generator) -> None:
        """U(-1e-4, 1e-4) for every vertex, as for hash tables."""
        for grid in self.grids:
            draw_uniform(grid, 1e-4, generator)

    def forward(self, points: Tensor, level_weights: Tensor | None = None) -> Tensor:
        """As `Encoding`. Vertices sit on the cube's faces (`align_corners`); the last axis of a grid is x."""
        where = (points * 2 - 1)[None, :, None, None, :]
        parts = []
        for level, grid in enumerate(self.grids):
            part = F.grid_sample(grid, where, align_corners=True, padding_mode="border")[0, :, :, 0, 0].T
            parts.append(part if level_weights is None else part * level_weights[level])
        return torch.cat(parts, dim=-1)

    def grid_parameters(self) -> list[nn.Parameter]:
        """The grids."""
        return list(self.grids)


def integrated_sines(points: Tensor, deviation: float, levels: int) -> Tensor:
    """E[sin(2^l u)], E[cos(2^l u)] for u ~ N(x, s^2): points (N, 3) in [-1, 1] -> (N, L, 6).

    exp(-4^l s^2/2) times the sine and cosine of the mean. Mip-NeRF (Barron et al. 2021), eqs. 9-14, isotropic covariance.
    """
    frequency = 2.0 ** torch.arange(levels, device=points.device, dtype=points.dtype)
    phase = points[:, None, :] * frequency[:, None]
    damping = torch.exp(-0.5 * (frequency * deviation) ** 2)[:, None]
    return torch.cat([phase.sin(), phase.cos()], dim=-1) * damping


class IntegratedPositional(Encoding):
    """Integrated positional encoding and the paper's residual network; infinitely smooth, small, and slow on a CPU."""

    def __init__(self, config: IntegratedPositionalConfig) -> None:
        super().__init__()
        self.levels, self.width = config.levels, config.width
        self.deviation = config.deviation
        self.trunk = ResidualMLP(3 + 6 * config.levels, config.width, config.blocks)

    def initialise(self, generator: torch.Generator) -> None:
        """The network's initialisation."""
        self.trunk.initialise(generator)

    def forward(self, points: Tensor, level_weights: Tensor | None = None) -> Tensor:
        """As `Encoding`; the points themselves are appended to the sines."""
        centred = points * 2 - 1
        sines = integrated_sines(centred, self.deviation, self.levels)
        if level_weights is not None:
            sines = sines * level_weights[:, None]
        features: Tensor = self.trunk(torch.cat([centred, sines.flatten(1)], dim=-1))
        return features


def make_encoding(config: HashGridConfig | DenseGridConfig | IntegratedPositionalConfig) -> Encoding:
    """The encoding that a configuration describes."""
    if isinstance(config, DenseGridConfig):
        return DenseGrid(config)
    if isinstance(config, IntegratedPositionalConfig):
        return IntegratedPositional(config)
    return HashGrid(config)
