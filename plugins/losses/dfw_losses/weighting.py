"""The weight w(t) of a distillation gradient, by the names configurations use."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dfw import NoiseSchedule

Weighting = Literal["sigma2", "one", "alpha-sigma2", "sigma-over-alpha"]
"""sigma2: sigma_t^2 = 1 - abar_t (DreamFusion). one: 1 (Score Jacobian Chaining). alpha-sigma2: alpha_t sigma_t^2 (Fantasia3D).
sigma-over-alpha: sigma_t / alpha_t (SDI; LucidDreamer's code)."""


def weight_at(weighting: Weighting, schedule: NoiseSchedule, timestep: Tensor, like: Tensor) -> Tensor:
    """w(t) for `timestep` (B,), shaped (B, 1, ..., 1) to broadcast over `like` (B, ...), in its device and dtype."""
    alpha, sigma = schedule.at(timestep, like)
    match weighting:
        case "sigma2":
            return sigma**2
        case "one":
            return torch.ones_like(sigma)
        case "alpha-sigma2":
            return alpha * sigma**2
        case "sigma-over-alpha":
            return sigma / alpha
