"""What is seen where no matter is: one colour, random colours, a checkerboard, or a small network of the viewing direction.

Legend: B views, H, W pixels.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from dfw import Background, ComponentConfig, draw_views

Probability = Annotated[float, Field(ge=0, le=1)]
Channel = Annotated[float, Field(ge=0, le=1)]
Colour = tuple[Channel, Channel, Channel]
WHITE: Colour = (1.0, 1.0, 1.0)


class _Mixed(Background):
    """A background that may be replaced by a random colour in some training views."""

    def _mixed(
        self, colour: Tensor, direction: Tensor, probability: float, shared: bool, generator: torch.Generator | None
    ) -> Tensor:
        """`colour`, or in a share `probability` of the training views one drawn uniformly from the RGB cube.

        shared: all views of a step have the same.
        """
        if not self.training or probability == 0:
            return colour
        views, axis = (1, None) if shared else (direction.shape[0], 0)
        drawn = draw_views(torch.rand, (views, 4), generator, direction.device, axis).to(direction.dtype)
        drawn = drawn[:, None, None, :]
        return torch.where(drawn[..., 3:] < probability, drawn[..., :3], colour)


class Solid(Background):
    """One colour in all views."""

    class Config(ComponentConfig):
        """The colour."""

        colour: Colour = WHITE
        """Display-referred RGB in [0, 1]."""

    config: Config
    solid: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("solid", torch.tensor(config.colour), persistent=False)

    def forward(self, direction: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The colour (1, 1, 1, 3)."""
        return self.solid.to(direction).view(1, 1, 1, 3)


class Random(_Mixed):
    """While training, a new random colour for some views, so that matter cannot hide before a known background."""

    class Config(ComponentConfig):
        """How often, and the colour of all other views."""

        probability: Probability = 0.7
        """Share of the training views with a colour drawn uniformly from the RGB cube."""
        shared: bool = False
        """Whether all views of a step have one background, as models that see several views at once are used to."""
        colour: Colour = WHITE
        """Colour of all other views, those of evaluation among them."""

    config: Config
    solid: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("solid", torch.tensor(config.colour), persistent=False)

    def forward(self, direction: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One colour a view: (B, 1, 1, 3), or (1, 1, 1, 3) where nothing is drawn or all views share one."""
        config = self.config
        return self._mixed(self.solid.to(direction).view(1, 1, 1, 3), direction, config.probability, config.shared, generator)


class Checker(Background):
    """Two colours in squares of the direction's azimuth and elevation: half-transparent matter shows against it."""

    class Config(ComponentConfig):
        """Colours and size of the squares."""

        colour: Colour = WHITE
        """Display-referred RGB in [0, 1]."""
        other: Colour = (0.75, 0.75, 0.75)
        """The other squares' colour."""
        squares: PositiveInt = 24
        """Squares around the horizon, an even number of them."""

    config: Config
    colours: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("colours", torch.tensor([config.colour, config.other]), persistent=False)

    def forward(self, direction: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A colour for each ray (B, H, W, 3)."""
        x, y, z = direction.unbind(-1)
        side = 2 * math.pi / (2 * ((self.config.squares + 1) // 2))
        square = torch.floor(torch.atan2(y, x) / side) + torch.floor(torch.asin(z.clamp(-1, 1)) / side)
        return self.colours.to(direction)[square.long() % 2]


def encode_direction(direction: Tensor, frequencies: int) -> Tensor:
    """Directions (..., 3) with sines and cosines of 2^k times them, k < `frequencies`: (..., 3 + 6 frequencies). NeRF, eq. 4."""
    octave = 2.0 ** torch.arange(frequencies, device=direction.device, dtype=direction.dtype)
    phase = (direction[..., None, :] * octave[:, None]).flatten(-2)
    return torch.cat([direction, phase.sin(), phase.cos()], dim=-1)


class Learned(_Mixed):
    """A network from the ray's direction to a colour, trained with the scene. DreamFusion (Poole et al. 2023), appendix A.2."""

    class Config(ComponentConfig):
        """Size of the network."""

        layers: PositiveInt = 3
        """Hidden layers."""
        width: PositiveInt = 64
        """Units of each."""
        frequencies: NonNegativeInt = 4
        """Octaves of sines and cosines of the direction."""
        random_probability: Probability = 0.0
        """Share of the training views with a random colour instead, so that the network cannot paint the object."""
        shared: bool = False
        """Whether all views of a step have the same random colour, or all have none."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        sizes = [3 + 6 * config.frequencies] + [config.width] * config.layers + [3]
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(b, a)) for a, b in pairwise(sizes))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(b)) for b in sizes[1:])

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
        """A colour for each ray (B, H, W, 3)."""
        x = encode_direction(direction, self.config.frequencies).to(self.weights[0].dtype)
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = F.linear(x, weight, bias)
            x = torch.sigmoid(x) if index == last else F.relu(x)
        config = self.config
        return self._mixed(x.to(direction.dtype), direction, config.random_probability, config.shared, generator)
