"""Score distillation sampling: the diffusion model's noise residual as the gradient of an image."""

from __future__ import annotations

from torch import Tensor

from dfw import Distillation, GuidedConfig, Query


class SDS(Distillation):
    """d loss / d z = w(t) (eps_hat(z_t; y, t) - eps), the U-Net's Jacobian left out. DreamFusion (Poole et al. 2023), eq. 3."""

    class Config(GuidedConfig):
        """Timesteps, weight and guidance of score distillation."""

    config: SDS.Config

    def direction(self, query: Query) -> Tensor:
        """eps_hat - eps."""
        return query.guided(query.now(self.config.guidance_scale)) - query.noise
