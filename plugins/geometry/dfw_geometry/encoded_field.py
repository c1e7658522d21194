"""A field that two small networks make of one encoding of space: the first network makes its shape, the second its colour.

Legend: N points, D features of a point.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from dfw import ComponentConfig, DensityField, Progress

from .encodings import EncodingConfig, make_encoding
from .fast import field as fast
from .hash_grid import HashGrid, HashGridConfig
from .networks import MLP, NetworkConfig


class CoarseToFine(ComponentConfig):
    """Levels of the encoding enter one after the other, at an even pace. As in Nerfies (Park et al. 2021), section 3.5."""

    start_levels: PositiveInt = 4
    """Levels that take part from the first step."""
    start: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of the run after which further levels enter."""
    end: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Fraction of the run after which all levels take part."""
    fade: bool = True
    """Whether the next level grows from 0 to 1, as in Nerfies. If false, it takes part as soon as it would have grown to 1."""

    @model_validator(mode="after")
    def _ordered(self) -> CoarseToFine:
        if self.start >= self.end:
            raise ValueError(f"start ({self.start:g}) is not before end ({self.end:g}); write start < end")
        return self


class EncodedField(DensityField):
    """A density and an albedo over the cube |x|_inf <= radius. albedo = sigmoid(colour network), in (0, 1)."""

    class Config(ComponentConfig):
        """What such fields have in common."""

        radius: PositiveFloat = 1.0
        """Half-width of the scene, world units."""
        encoding: EncodingConfig = HashGridConfig()
        """`hash-grid`, `dense-grid` or `integrated-positional`, or a mapping with `type` and its fields."""
        colour_network: NetworkConfig = NetworkConfig()
        """Network from features to the albedo."""
        coarse_to_fine: CoarseToFine | None = None
        """Fine levels enter later; null: all from the start."""

    level_weights: Tensor | None

    def __init__(self, config: Config, shape: NetworkConfig, channels: int = 3) -> None:
        """shape: the size of the shape's network. channels: outputs of the colour's network, which `_painted` reads."""
        super().__init__()
        self.config = config
        self.encoding = make_encoding(config.encoding)
        self.shape_network = MLP(self.encoding.width, 1, shape.width, shape.layers)
        self.colour_network = MLP(self.encoding.width, channels, config.colour_network.width, config.colour_network.layers)
        self.register_buffer("level_weights", torch.ones(self.encoding.levels) if config.coarse_to_fine else None)

    @property
    def radius(self) -> float:
        """Half-width of the scene's cube, world units."""
        radius: float = self.config.radius
        return radius

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the encoding, then the shape's network, then the colour's."""
        for part in (self.encoding, self.shape_network, self.colour_network):
            part.initialise(generator)
        if self.level_weights is not None:
            self.begin_step(Progress(0, 1), torch.Generator())

    def begin_step(self, progress: Progress, generator: torch.Generator) -> None:
        """Sets how much each level of the encoding takes part, for coarse-to-fine runs; no transfer from the device."""
        plan, weights = self.config.coarse_to_fine, self.level_weights
        if plan is None or weights is None:
            return
        first = min(plan.start_levels, len(weights))
        share = min(max((progress.fraction - plan.start) / (plan.end - plan.start), 0.0), 1.0)
        active = first + (len(weights) - first) * share
        whole = int(active + 1e-6)  # where a level is complete, rounding must not lose it
        weights[:whole].fill_(1.0)
        weights[whole:].fill_(0.0)
        if plan.fade:
            weights[whole : whole + 1].fill_(max(active - whole, 0.0))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """`geometry.encoding`: what is stored over space (absent for sines); `geometry.network`: all else."""
        grids = self.encoding.grid_parameters()
        stored = {id(p) for p in grids}
        rest = [p for p in self.parameters() if id(p) not in stored]
        return {"geometry.encoding": grids, "geometry.network": rest} if grids else {"geometry.network": rest}

    def _shape(self, points: Tensor) -> Tensor:
        """The shape's network at points (N, 3): (N,). The colour's network is not evaluated."""
        raw: Tensor = self.shape_network(self._encode(points))[..., 0].to(points.dtype)
        return raw

    def _networks(self, points: Tensor, slopes: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Both networks at points (N, 3): the shape's (N,), the colour's (N, K), and the gradient of the shape's (N, 3).

        The gradient is with respect to the points, and left out unless `slopes` asks for it. Works where grad mode is off, and
        then keeps no graph.
        """
        if slopes and isinstance(self.encoding, HashGrid):
            shape, paint = self.shape_network.weights(), self.colour_network.weights()
            if fast.serves(points, self.encoding.table, shape, paint):
                if self.level_weights is not None:  # features enter in the first layers alone
                    each = self.level_weights.repeat_interleave(self.encoding.table.shape[1])
                    shape, paint = (shape[0] * each, *shape[1:]), (paint[0] * each, *paint[1:])
                raw, colour, slope = fast.values(self._unit(points), self.encoding.table, self.encoding.layout, shape, paint)
                return raw, colour, slope / (2 * self.radius)
        features = self._encode(points)
        colour = self.colour_network(features).to(points.dtype)
        if not slopes:
            return self.shape_network(features)[..., 0].to(points.dtype), colour, None
        raw, slope = self.shape_network.with_slope(features)
        slope = self.encoding.pullback(self._unit(points), slope, self.level_weights) / (2 * self.radius)
        return raw[..., 0].to(points.dtype), colour, slope

    def _painted(self, colour: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The albedo (..., 3) that the colour network's outputs (..., K) stand for, and what else they say, each (..., C)."""
        return torch.sigmoid(colour), {}

    def _encode(self, points: Tensor) -> Tensor:
        features: Tensor = self.encoding(self._unit(points), self.level_weights)
        return features

    def _unit(self, points: Tensor) -> Tensor:
        """World points (N, 3) -> [0, 1]."""
        return ((points / self.radius + 1) / 2).clamp(0, 1)

    def _inside(self, values: Tensor, points: Tensor) -> Tensor:
        """`values` (N, ...) where `points` (N, 3) are in the cube, else 0."""
        inside = points.detach().abs().amax(-1) <= self.radius
        return torch.where(inside.view(-1, *[1] * (values.dim() - 1)), values, torch.zeros_like(values))
