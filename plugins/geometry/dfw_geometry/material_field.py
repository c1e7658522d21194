"""What a surface is made of, as a field over space: an encoding and a small network.

Legend: P points, K samples of a step of the fit.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dfw import ComponentConfig, Material

from .encodings import EncodingConfig, make_encoding
from .fitting import draw_rows, fit
from .hash_grid import HashGridConfig
from .networks import MLP, NetworkConfig

_SMOOTHEST = 0.08  # a smoother surface mirrors lights as points, which no pixel samples well; nvdiffrec's lower limit too
_SELDOM_METAL = 3.0  # sigmoid(-3) = 0.05: most things are not metal, and a metal hides its albedo
_BUMP = 0.5  # at most 0.87 long, so that no bump turns a unit normal around
_CHUNK = 2**18  # points that a source is asked for at once, which bounds its memory


class MaterialField(nn.Module):
    """A material at every point of the cube |x|_inf <= radius. Outside it is that of the nearest point of the cube.

    albedo = sigmoid(network), in (0, 1). With `pbr`, roughness lies in (0.08, 1) and starts near 0.54. Metallic lies in (0, 1)
    and starts near 0.05. Each component of the bump lies in (-0.5, 0.5) and starts near 0.
    """

    class Config(ComponentConfig):
        """What a material field is made of."""

        encoding: EncodingConfig = HashGridConfig()
        """`hash-grid`, `dense-grid` or `integrated-positional`, or a mapping with `type` and its fields."""
        network: NetworkConfig = NetworkConfig()
        """Network from features to the material."""
        pbr: bool = False
        """Whether there are roughness, metallic and bump next to the albedo."""

    def __init__(self, config: Config, radius: float) -> None:
        super().__init__()
        self.config = config
        self.radius = radius
        self.encoding = make_encoding(config.encoding)
        outputs = 8 if config.pbr else 3
        self.network = MLP(self.encoding.width, outputs, config.network.width, config.network.layers)

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the encoding, then the network."""
        self.encoding.initialise(generator)
        self.network.initialise(generator)

    def parameter_groups(self, prefix: str) -> dict[str, list[nn.Parameter]]:
        """`prefix.encoding`: what is stored over space (absent for sines); `prefix.network`: all else."""
        grids = self.encoding.grid_parameters()
        stored = {id(p) for p in grids}
        rest = [p for p in self.parameters() if id(p) not in stored]
        return {f"{prefix}.encoding": grids, f"{prefix}.network": rest} if grids else {f"{prefix}.network": rest}

    def forward(self, position: Tensor) -> Material:
        """The material at `position` (..., 3), world units. Gradients reach the parameters and the positions."""
        flat = position.reshape(-1, 3)
        features = self.encoding(((flat / self.radius + 1) / 2).clamp(0, 1))
        raw = self.network(features).to(flat.dtype)
        raw = raw.view(*position.shape[:-1], raw.shape[-1])
        albedo = torch.sigmoid(raw[..., :3])
        if not self.config.pbr:
            return Material(albedo)
        roughness = _SMOOTHEST + (1 - _SMOOTHEST) * torch.sigmoid(raw[..., 3])
        metallic = torch.sigmoid(raw[..., 4] - _SELDOM_METAL)
        return Material(albedo, roughness, metallic, _BUMP * torch.tanh(raw[..., 5:]))

    def fit(self, source: Callable[[Tensor], Tensor], points: Tensor, generator: torch.Generator) -> None:
        """Trains the albedo to be that of `source` at `points` (P, 3), world units, by 300 steps of Adam on their squared error.

        source: points (K, 3) -> colours (K, 3) in [0, 1], asked once for each point, without gradients. generator: chooses the
        points of each step, 4096 at most. Gradients may be switched off. Between points that lie further apart than the finest
        cells the colours are guesses: on a unit sphere 100 000 points leave a mean error of 0.008, 10 000 leave 0.02.
        """
        with torch.no_grad():
            wanted = torch.cat([source(part) for part in torch.split(points, _CHUNK)])

        def error() -> Tensor:
            chosen = draw_rows(len(points), generator, points.device)
            albedo: Tensor = self(points[chosen]).albedo
            return (albedo - wanted[chosen]).square().mean()

        fit(self.parameters(), error)
