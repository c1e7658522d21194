"""Casts around half-precision networks that neither overflow gradients nor flush them to zero."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

Precision = Literal["fp32", "fp16", "bf16", "auto"]
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class GradientScale:
    """The factor that divides the gradient between `unfit_gradient` and `fit_gradient`. Backward sets it at the former."""

    def __init__(self) -> None:
        self.factor: Tensor | None = None


class _Fit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, dtype: torch.dtype, scale: GradientScale) -> Tensor:
        ctx.dtype, ctx.scale = value.dtype, scale
        return value.to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, None, None]:
        factor = ctx.scale.factor
        return gradients[0].to(ctx.dtype) * factor.to(ctx.dtype), None, None


class _Unfit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, dtype: torch.dtype, scale: GradientScale) -> Tensor:
        ctx.dtype, ctx.scale = value.dtype, scale
        return value.to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, None, None]:
        largest = gradients[0].abs().amax()
        factor = torch.where(largest > 0, largest, torch.ones_like(largest))
        ctx.scale.factor = factor
        return (gradients[0] / factor).to(ctx.dtype), None, None


def fit_gradient(value: Tensor, dtype: torch.dtype) -> tuple[Tensor, GradientScale | None]:
    """Casts `value` to `dtype`. Returns it with the scale that its gradient will have, or None if a plain cast is enough."""
    if value.dtype == dtype or not value.requires_grad:
        return value.to(dtype), None
    scale = GradientScale()
    return _Fit.apply(value, dtype, scale), scale  # type: ignore[no-untyped-call]


def unfit_gradient(value: Tensor, dtype: torch.dtype, scale: GradientScale | None) -> Tensor:
    """Casts `value` back to `dtype`. In backward it scales the gradient's largest entry to 1 before the narrow type."""
    if scale is None:
        return value.to(dtype)
    result: Tensor = _Unfit.apply(value, dtype, scale)  # type: ignore[no-untyped-call]
    return result
