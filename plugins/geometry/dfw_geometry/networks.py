"""Small networks, their initialisation from a generator, and the truncated exponential."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from dfw import ComponentConfig

from .fast import networks as fast
from .layers import layers


def draw_uniform(parameter: Tensor, bound: float, generator: torch.Generator) -> None:
    """Fills `parameter` with U(-bound, bound), drawn in float32 on the generator's device: every device gets the same numbers."""
    values = torch.empty(parameter.shape, device=generator.device, dtype=torch.float32).uniform_(
        -bound, bound, generator=generator
    )
    with torch.no_grad():
        parameter.copy_(values)


def draw_linear(layer: nn.Linear, generator: torch.Generator, gain: float = 1.0) -> None:
    """Draws He's uniform weights times `gain` (He et al. 2015), and sets the bias to zero."""
    draw_uniform(layer.weight, gain * math.sqrt(6 / layer.in_features), generator)
    with torch.no_grad():
        layer.bias.zero_()


def empty_linear(inputs: int, outputs: int) -> nn.Linear:
    """Makes a linear layer of zeros. Unlike torch's own constructor it draws nothing from the global generator."""
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    return layer


class NetworkConfig(ComponentConfig):
    """A multi-layer perceptron on top of the encoding."""

    width: PositiveInt = 64
    """Units of a hidden layer."""
    layers: Annotated[int, Field(ge=0)] = 1
    """Hidden layers."""


class MLP(nn.Module):
    """`layers` hidden layers of `width` with ReLU, then a linear layer: (..., inputs) -> (..., outputs)."""

    def __init__(self, inputs: int, outputs: int, width: int, layers: int) -> None:
        super().__init__()
        sizes = [inputs] + [width] * layers
        self.hidden = nn.ModuleList([empty_linear(a, b) for a, b in pairwise(sizes)])
        self.last = empty_linear(sizes[-1], outputs)

    def initialise(self, generator: torch.Generator) -> None:
        """Initialises as He et al.; the last layer gets a tenth of that, so that the output starts near zero."""
        for layer in self.hidden:
            draw_linear(layer, generator)  # type: ignore[arg-type]
        draw_linear(self.last, generator, gain=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the network's output, unbounded."""
        weights = self.weights()
        if fast.serves(x, weights):
            return fast.values(x, weights)
        return layers(x, weights)

    def with_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the single output (N, 1) at `x` (N, inputs), and its gradient in `x`. Both are differentiable once."""
        weights, track = self.weights(), torch.is_grad_enabled()
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            out = layers(x, weights)
            (slope,) = torch.autograd.grad(out.sum(), x, create_graph=track)
        return (out, slope) if track else (out.detach(), slope)

    def weights(self) -> tuple[Tensor, ...]:
        """Weight and bias of each layer."""
        return tuple(each for layer in (*self.hidden, self.last) for each in (layer.weight, layer.bias))


class ResidualBlock(nn.Module):
    """A pre-normalised residual block: x + W2 silu(W1 silu(LayerNorm(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = empty_linear(width, width)
        self.second = empty_linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        residual: Tensor = self.second(F.silu(self.first(F.silu(self.norm(x)))))
        return x + residual


class ResidualMLP(nn.Module):
    """A linear layer and `blocks` residual blocks: (..., inputs) -> (..., width). DreamFusion (Poole et al. 2023), app. A.2."""

    def __init__(self, inputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.first = empty_linear(inputs, width)
        self.blocks = nn.ModuleList([ResidualBlock(width) for _ in range(blocks)])

    def initialise(self, generator: torch.Generator) -> None:
        """Initialises as He et al.; each block's last layer gets a tenth of that, so that blocks start near the identity."""
        draw_linear(self.first, generator, gain=1 / math.sqrt(2))
        for block in self.blocks:
            assert isinstance(block, ResidualBlock)
            with torch.no_grad():
                block.norm.weight.fill_(1)
                block.norm.bias.zero_()
            draw_linear(block.first, generator)
            draw_linear(block.second, generator, gain=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the trunk's features."""
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return x


class _TruncatedExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.exp(x.clamp(max=80))  # exp(88.8) overflows float32

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return upstream * truncated_exp_slope(x)


def truncated_exp(x: Tensor) -> Tensor:
    """Returns exp(x), constant above x = 80 so that it stays finite. Its gradient is exp(clamp(x, -15, 15)), so no step explodes.

    This is Instant-NGP's activation (Mueller et al. 2022). It is differentiable twice.
    """
    out: Tensor = _TruncatedExp.apply(x)  # type: ignore[no-untyped-call]
    return out


def truncated_exp_slope(x: Tensor) -> Tensor:
    """Returns exp(clamp(x, -15, 15)), the derivative that `truncated_exp` has by definition."""
    return torch.exp(x.clamp(-15, 15))
