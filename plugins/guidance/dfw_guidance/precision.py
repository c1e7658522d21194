"""Half-precision weights between single-precision images: casts that neither overflow nor flush gradients to zero."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

Precision = Literal["fp32", "fp16", "bf16", "auto"]
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class GradientScale:
    """What the gradient is divided by between `unfit_gradient` and `fit_gradient`, known once backward has passed the former."""

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
    """`value` in `dtype`, and what its gradient will have been scaled by on the way back; a plain cast where nothing narrows."""
    if value.dtype == dtype or not value.requires_grad:
        return value.to(dtype), None
    scale = GradientScale()
    return _Fit.apply(value, dtype, scale), scale  # type: ignore[no-untyped-call]


def unfit_gradient(value: Tensor, dtype: torch.dtype, scale: GradientScale | None) -> Tensor:
    """`value` back in `dtype`; in backward the gradient's largest entry is made 1 before it enters the narrow type."""
    if scale is None:
        return value.to(dtype)
    result: Tensor = _Unfit.apply(value, dtype, scale)  # type: ignore[no-untyped-call]
    return result
