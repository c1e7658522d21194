"""Bounds on a distillation gradient: outliers of the score, which make ghosts and floaters, are cut. D-SDS (Hong et al. 2023)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import field_validator
from torch import Tensor

from dfw.config.schedules import Schedule
from dfw.distillation.timesteps import bounds_of
from dfw.interfaces.component import ComponentConfig


class Clip(ComponentConfig):
    """How large a gradient may get, and what is measured."""

    limit: Schedule
    """The bound, in units of the gradient; rises during the run in D-SDS, e.g. {from: 0.5, to: 2}."""
    by: Literal["element", "pixel", "view"] = "element"
    """element: each number is clamped to +-limit, as in D-SDS. pixel: each pixel's vector of channels is shortened to that
    length. view: a view's gradient is scaled down to that root mean square."""

    @field_validator("limit")
    @classmethod
    def _positive(cls, value: Schedule) -> Schedule:
        if min(bounds_of(value)) <= 0:
            raise ValueError(f"{min(bounds_of(value)):g} must be above 0; D-SDS raises it from 0.5 to 2")
        return value


def clip_gradient(gradient: Tensor, limit: float, by: Literal["element", "pixel", "view"]) -> Tensor:
    """`gradient` (B, C, h, w) within `limit`, its direction kept for `pixel` and `view`.

    What is small enough passes unchanged, NaN stays NaN. D-SDS (Hong et al. 2023), dynamic clipping of the score.
    """
    if by == "element":
        return gradient.clamp(-limit, limit)
    size = gradient.square().sum(1, keepdim=True) if by == "pixel" else gradient.square().mean((1, 2, 3), keepdim=True)
    return gradient * (limit / size.sqrt().clamp_min(torch.finfo(gradient.dtype).tiny)).clamp_max(1)
