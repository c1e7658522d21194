"""Which precision frozen networks have, and casts around them that neither overflow gradients nor flush them to zero."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

Precision = Literal["fp32", "fp16", "bf16", "auto"]
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def chosen_precision(precision: Precision, device: torch.device, half: torch.dtype) -> torch.dtype:
    """Returns the type that `precision` means on `device`.

    `auto` is `half` on CUDA. On a CPU it is bf16 if the CPU multiplies bf16 in hardware, and fp32 otherwise. Emulated, bf16 takes
    many times as long as fp32.
    """
    if precision != "auto":
        return DTYPES[precision]
    if device.type == "cuda":
        return half
    return torch.bfloat16 if device.type == "cpu" and cpu_multiplies_bf16() else torch.float32


def cpu_multiplies_bf16() -> bool:
    """Returns whether the CPU has AVX512-BF16, as all CPUs with AMX do."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def name_of_precision(dtype: torch.dtype) -> str:
    """Returns the name of `dtype` in a configuration."""
    return next(name for name, value in DTYPES.items() if value == dtype)


def dtype_of(network: nn.Module) -> torch.dtype:
    """Returns the type of `network`'s weights. diffusers' own `dtype` goes through all of them in each call."""
    return next(weight.dtype for weight in network.parameters() if weight.is_floating_point())


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
