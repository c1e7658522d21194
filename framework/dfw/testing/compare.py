"""Comparing tensors and derivatives, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from dfw.testing.outcomes import require

Values = Mapping[str, Tensor]
"""What a component gave back, by name."""


def difference(a: Tensor, b: Tensor) -> float:
    """The largest |a - b|, infinite where one of them is not finite and the other differs."""
    if a.numel() == 0:
        return 0.0
    a, b = a.detach().cpu().double(), b.detach().cpu().double()
    apart = torch.where(a == b, torch.zeros_like(a), (a - b).abs())
    return float(torch.nan_to_num(apart, nan=torch.inf).max())


def require_same(a: Values, b: Values, tolerance: float, promise: str, remedy: str) -> None:
    """Requires equal names and shapes, and values that agree within `tolerance` of the largest (exactly for 0)."""
    require(a.keys() == b.keys(), promise, f"one gave {', '.join(a)}, the other {', '.join(b)}", remedy)
    for name, value in a.items():
        other = b[name]
        require(value.shape == other.shape, promise, f"{name} has shape {tuple(value.shape)} and {tuple(other.shape)}", remedy)
        apart = difference(value, other)
        scale = float(value.detach().abs().max()) if value.numel() else 0.0
        seen = f"{name} differs by up to {apart:.3g} where values reach {scale:.3g}"
        require(apart <= tolerance * max(1.0, scale), promise, seen, remedy)


def bounds(value: Tensor) -> tuple[float, float]:
    """The lowest and the highest value."""
    low, high = value.detach().aminmax()
    return float(low), float(high)


def require_finite(values: Values, promise: str, remedy: str) -> None:
    """Requires that no value is infinite or no number."""
    for name, value in values.items():
        bad = int((~torch.isfinite(value)).sum())
        require(bad == 0, promise, f"{bad} of {value.numel()} values of {name} are not", remedy)


def projected(values: Values, generator: torch.Generator) -> Tensor:
    """One scalar that every value has a share in: a sum with random signs and weights, so that nothing cancels by symmetry."""
    total = torch.zeros((), device=generator.device, dtype=torch.float64)
    for name in sorted(values):
        value = values[name]
        weight = torch.randn(value.shape, generator=generator, device=generator.device, dtype=torch.float64)
        total = total + (weight.to(value.device) * value.double()).sum()
    return total


def directional_derivative(
    function: Callable[[], Tensor], tensors: Iterable[Tensor], directions: Iterable[Tensor], step: float
) -> float:
    """(f(x + h d) - f(x - h d)) / 2h of a scalar `function` of `tensors`, which are moved in place and put back."""
    pairs = list(zip(tensors, directions, strict=True))
    start = [tensor.detach().clone() for tensor, _ in pairs]
    ends = []
    with torch.no_grad():
        for sign in (1, -1):
            for (tensor, direction), origin in zip(pairs, start, strict=True):
                tensor.copy_(origin + sign * step * direction)
            ends.append(float(function()))
        for (tensor, _), origin in zip(pairs, start, strict=True):
            tensor.copy_(origin)
    return (ends[0] - ends[1]) / (2 * step)


def require_derivative(
    function: Callable[[], Tensor],
    tensors: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    generator: torch.Generator,
    remedy: str,
) -> None:
    """Requires that along a random direction `gradients` of `function`, float64, say what central differences find.

    A step of 1e-6, and where that disagrees one of 1e-8, which a kink (a ReLU near 0) seldom falls into.
    """
    directions = [torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype) for x in tensors]
    stated = float(sum((g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None))
    for step in (1e-6, 1e-8):
        found = directional_derivative(function, tensors, directions, step)
        holds = abs(stated - found) <= 1e-3 * max(abs(stated), abs(found), 1e-6)
        if holds:
            break
    seen = f"along a random direction autograd says {stated:.6g} and finite differences {found:.6g}"
    require(holds, "gradients are the derivatives of the values", seen, remedy)
