"""Two networks of one hidden layer on the same features, with the first one's gradient, in closed form.

For a = relu(W f + b) and y = v . a + c the gradient is s = dy/df = W^T (v m), m = [a > 0]. Everything that flows back from y and
s together is linear in one matrix, M = sum_n (y'_n f_n + s'_n, y'_n) m_n^T, where y' and s' are what flows into y and s:

    dW = v M_f,  db = v M_1,  dv = W . M_f + b M_1 (row by row),  df = y' s.

(relu's second derivative is zero.) So a normal costs one product more than the density alone, instead of a second pass through
autograd's graph of the first. Points go through in tiles whose hidden units stay in a core's cache; their values are computed
again on the way back, which is cheaper than to keep them.

Legend: N points, n of a tile, D features, U hidden units of a network, K outputs of the second one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .networks import MLP

_TILE = 2048
"""Points of a tile: their hidden units, 64 for each, take 512 KiB."""


def has_closed_form(first: MLP, second: MLP) -> bool:
    """Whether both networks have the one hidden layer that `heads` is for."""
    return len(first.hidden) == len(second.hidden) == 1


def heads(features: Tensor, first: MLP, second: MLP, slopes: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Both networks at features (N, D): the first one's output (N,), the second one's (N, K), and the first one's gradient.

    The gradient with respect to the features, (N, D), where `slopes` asks for it, else None. `first` has one output. All three
    are differentiable once, in features and parameters.
    """
    out: tuple[Tensor, Tensor, Tensor] = _Heads.apply(slopes, features, *_parameters(first), *_parameters(second))  # type: ignore[no-untyped-call]
    return out[0], out[1], out[2] if slopes else None


def _parameters(network: MLP) -> list[Tensor]:
    hidden = network.hidden[0]
    return [cast(Tensor, hidden.weight), cast(Tensor, hidden.bias), network.last.weight, network.last.bias]


@dataclass(frozen=True)
class _Network:
    """Hidden layer with its bias as the last column (U, D + 1); last layer (K, U) and (K,)."""

    hidden: Tensor
    last: Tensor
    bias: Tensor

    @staticmethod
    def of(weight: Tensor, bias: Tensor, last: Tensor, last_bias: Tensor) -> _Network:
        return _Network(torch.cat([weight, bias[:, None]], dim=1), last, last_bias)


def _tiles(features: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the points, each with its features and a column of ones (n, D + 1), overwritten by the next."""
    count, width = features.shape
    size = _TILE if features.device.type == "cpu" else max(count, 1)
    room = features.new_ones(min(size, count), width + 1)
    for begin in range(0, count, size):
        part = slice(begin, min(begin + size, count))
        tile = room[: part.stop - begin]
        tile[:, :width] = features[part]
        yield part, tile


class _Heads(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, slopes: bool, features: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first, second = _Network.of(*parameters[:4]), _Network.of(*parameters[4:])
        count, width = features.shape
        steep = slopes or any(ctx.needs_input_grad)
        out, other = features.new_empty(count), features.new_empty(len(second.bias), count)
        slope = features.new_empty(count if steep else 0, width)
        factor = first.last.t() * first.hidden[:, :width]
        for part, tile in _tiles(features):
            units = torch.mm(tile, second.hidden.t()).relu_()
            torch.mm(second.last, units.t(), out=other[:, part])
            units = torch.mm(tile, first.hidden.t()).relu_()
            torch.mv(units, first.last[0], out=out[part])
            if steep:
                torch.mm(units.sign_(), factor, out=slope[part])
        ctx.save_for_backward(features, slope, *parameters)
        ctx.set_materialize_grads(False)
        return out.add_(first.bias), other.add_(second.bias[:, None]).t().contiguous(), slope

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *flows: Tensor | None) -> tuple[Tensor | None, ...]:
        features, slope, *parameters = ctx.saved_tensors
        first, second = _Network.of(*parameters[:4]), _Network.of(*parameters[4:])
        back = _Backward(first, second, features, slope)
        back.run(*flows)
        return (None, back.to_features, *back.of_first(), *back.of_second())


class _Backward:
    """The gradients of one call, summed up tile by tile."""

    def __init__(self, first: _Network, second: _Network, features: Tensor, slope: Tensor) -> None:
        self.first, self.second, self.features, self.slope = first, second, features, slope
        self.moment, self.inner = torch.zeros_like(first.hidden.t()), torch.zeros_like(second.hidden.t())
        self.last, self.ends = torch.zeros_like(second.last), (torch.zeros_like(first.bias), torch.zeros_like(second.bias))
        self.to_features = torch.zeros_like(features)

    def run(self, to_out: Tensor | None, to_other: Tensor | None, to_slope: Tensor | None) -> None:
        """Goes through all tiles with what flows into the outputs, (N,), (N, K) and (N, D); None where nothing does."""
        if to_out is not None:
            torch.mul(self.slope, to_out[:, None], out=self.to_features)
            self.ends[0].add_(to_out.sum())
        if to_other is not None:
            self.ends[1].add_(to_other.sum(0))
        for part, tile in _tiles(self.features):
            if to_other is not None:
                self._other(part, tile, to_other[part])
            if to_out is not None or to_slope is not None:
                self._own(tile, None if to_out is None else to_out[part], None if to_slope is None else to_slope[part])

    def _own(self, tile: Tensor, to_out: Tensor | None, to_slope: Tensor | None) -> None:
        """A tile's part of M; overwrites the tile."""
        active = torch.mm(tile, self.first.hidden.t()).relu_().sign_()
        tile.mul_(0.0 if to_out is None else to_out[:, None])
        if to_slope is not None:
            tile[:, :-1] += to_slope
        self.moment.addmm_(tile.t(), active)
        tile[:, -1] = 1

    def _other(self, part: slice, tile: Tensor, flow: Tensor) -> None:
        """A tile's part of the second network, by the chain rule."""
        units = torch.mm(tile, self.second.hidden.t()).relu_()
        self.last.addmm_(flow.t(), units)
        inner = torch.mm(flow, self.second.last).mul_(units.sign_())
        self.to_features[part].addmm_(inner, self.second.hidden[:, :-1])
        self.inner.addmm_(tile.t(), inner)

    def of_first(self) -> tuple[Tensor, ...]:
        """Gradients of the first network's weights and biases, in the order of its parameters."""
        joined = self.first.last.t() * self.moment.t()
        last = (self.first.hidden * self.moment.t()).sum(1)
        return joined[:, :-1], joined[:, -1], last[None], self.ends[0]

    def of_second(self) -> tuple[Tensor, ...]:
        """The same of the second."""
        return self.inner[:-1].t(), self.inner[-1], self.last, self.ends[1]
