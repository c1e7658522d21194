"""What is seen where no matter is: one colour, random colours, or a small network of the viewing direction.

Legend: B views, H, W pixels.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from dfw import ComponentConfig

Probability = Annotated[float, Field(ge=0, le=1)]
Channel = Annotated[float, Field(ge=0, le=1)]
Colour = tuple[Channel, Channel, Channel]


class SolidConfig(ComponentConfig):
    """One colour in all views."""

    type: Literal["solid"] = "solid"
    colour: Colour = (1.0, 1.0, 1.0)
    """Linear RGB in [0, 1]."""


class RandomConfig(ComponentConfig):
    """While training, a new random colour for some views, so that matter cannot hide before a known background."""

    type: Literal["random"] = "random"
    probability: Probability = 0.7
    """Share of the training views with a colour drawn uniformly from the RGB cube."""
    colour: Colour = (1.0, 1.0, 1.0)
    """Colour of all other views, those of evaluation among them."""


class LearnedConfig(ComponentConfig):
    """A network from the ray's direction to a colour, trained with the scene. DreamFusion (Poole et al. 2023), appendix A.2."""

    type: Literal["learned"] = "learned"
    layers: PositiveInt = 3
    """Hidden layers."""
    width: PositiveInt = 64
    """Units of each."""
    frequencies: NonNegativeInt = 4
    """Octaves of sines and cosines of the direction."""
    random_probability: Probability = 0.0
    """Share of the training views with a random colour instead, so that the network cannot paint the object."""


def _expand(value: Any) -> Any:
    """`learned` is short for `{type: learned}`."""
    return {"type": value} if isinstance(value, str) else value


_Configs = Annotated[SolidConfig | RandomConfig | LearnedConfig, Field(discriminator="type")]
BackgroundConfig = Annotated[
    _Configs, BeforeValidator(_expand, json_schema_input_type=Literal["solid", "random", "learned"] | _Configs)
]
"""A background's name, or a mapping with its `type` and its fields."""


def encode_direction(direction: Tensor, frequencies: int) -> Tensor:
    """Directions (..., 3) with sines and cosines of 2^k times them, k < `frequencies`: (..., 3 + 6 frequencies). NeRF, eq. 4."""
    octave = 2.0 ** torch.arange(frequencies, device=direction.device, dtype=direction.dtype)
    phase = (direction[..., None, :] * octave[:, None]).flatten(-2)
    return torch.cat([direction, phase.sin(), phase.cos()], dim=-1)


class Background(nn.Module):
    """The colour behind the scene; parameters only when learned."""

    solid: Tensor

    def __init__(self, config: SolidConfig | RandomConfig | LearnedConfig) -> None:
        super().__init__()
        self.config = config
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        if isinstance(config, LearnedConfig):
            sizes = [3 + 6 * config.frequencies] + [config.width] * config.layers + [3]
            self.weights.extend(nn.Parameter(torch.zeros(b, a)) for a, b in pairwise(sizes))
            self.biases.extend(nn.Parameter(torch.zeros(b)) for b in sizes[1:])
        else:
            self.register_buffer("solid", torch.tensor(config.colour), persistent=False)

    @property
    def random_probability(self) -> float:
        """Share of the training views that get a random colour."""
        if isinstance(self.config, RandomConfig):
            return self.config.probability
        return self.config.random_probability if isinstance(self.config, LearnedConfig) else 0.0

    def initialise(self, generator: torch.Generator) -> None:
        """He's uniform weights (He et al. 2015), a tenth of them in the last layer, so that the first colours are near grey."""
        with torch.no_grad():
            for index, weight in enumerate(self.weights):
                bound = math.sqrt(6 / weight.shape[1]) * (0.1 if index == len(self.weights) - 1 else 1.0)
                drawn = torch.rand(weight.shape, generator=generator, device=generator.device)
                weight.copy_((2 * drawn - 1) * bound)
            for bias in self.biases:
                bias.zero_()

    def forward(self, direction: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Colours in [0, 1] that broadcast to (B, H, W, 3), for ray directions (B, H, W, 3); draws only in training mode."""
        colour = self._steady(direction)
        if not self.training or self.random_probability == 0:
            return colour
        views = direction.shape[0]
        drawn = torch.rand(views, 4, generator=generator, device=direction.device).to(direction.dtype)[:, None, None, :]
        return torch.where(drawn[..., 3:] < self.random_probability, drawn[..., :3], colour)

    def _steady(self, direction: Tensor) -> Tensor:
        if not isinstance(self.config, LearnedConfig):
            return self.solid.to(direction).view(1, 1, 1, 3)
        x = encode_direction(direction, self.config.frequencies).to(self.weights[0].dtype)
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = F.linear(x, weight, bias)
            x = torch.sigmoid(x) if index == last else F.relu(x)
        return x.to(direction.dtype)
