"""A surface is thin: the variance of the depth along each ray that hits something."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dfw import ComponentConfig, ConfigError, Loss, LossInputs

_TINY = 1e-6
"""Smallest opacity that a ray's weights are divided by."""


class ZVariance(Loss):
    """mean over rays of opacity above 0.5 of sum_i p_i (z_i - z_mean)^2, p_i = w_i / sum w the samples' shares of the ray.

    In world units squared. HiFA (Zhu et al. 2024), its z-variance regulariser.
    """

    class Config(ComponentConfig):
        """Nothing to choose; the weight belongs to the run."""

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """Samples along the rays, and opacity."""
        return frozenset({"ray-samples", "opacity"})

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar >= 0, 0 where every ray ends at a single distance; no gradient from rays that mostly miss."""
        samples = inputs.render.samples
        if samples is None:
            raise ConfigError(
                "the loss 'z-variance' needs samples along the rays, and the renderer gave none; use a volume renderer"
            )
        rays = inputs.render.opacity.numel()

        def per_ray(values: Tensor) -> Tensor:
            return torch.zeros(rays, device=values.device, dtype=values.dtype).index_add(0, samples.ray, values)

        total = per_ray(samples.weight).clamp_min(_TINY)
        share = samples.weight / total[samples.ray]
        mean = per_ray(share * samples.distance)
        variance = per_ray(share * (samples.distance - mean[samples.ray]).square())
        hit = (inputs.render.opacity.flatten() > 0.5).to(variance)
        return (hit * variance).sum() / hit.sum().clamp_min(1)
