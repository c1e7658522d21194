"""Rectified flow distillation sampling: the residual of the velocity in place of the noise's."""

from __future__ import annotations

from torch import Tensor

from dfw import Distillation, GuidedConfig, Query, Schedule, Weighting


class RFDS(Distillation):
    """d loss / d z = w(t) [v_hat(z_t; y, t) - (eps - z)]: eps - z is the velocity of a straight path, v_hat = eps_hat - x0_hat.

    It is SDS with the weight 1 + sigma_t / alpha_t, which is 1 / alpha_t for a rectified flow. It makes one network call.
    RFDS (Yang et al. 2025), without the random factor of its code, which does not depend on t.
    """

    class Config(GuidedConfig):
        """Those of SDS, with w = 1."""

        guidance_scale: Schedule = 50.0
        """s in eps_u + s (eps_c - eps_u), diffusers' convention; the authors' for Stable Diffusion 3."""
        weighting: Weighting = "one"
        """w(t), by name or formula."""

    config: RFDS.Config

    def direction(self, query: Query) -> Tensor:
        """v_hat - (eps - z)."""
        noise = query.guided(query.now(self.config.guidance_scale))
        velocity = noise - query.guidance.predict_clean(query.noisy, query.timestep, noise)
        return velocity - (query.noise - query.clean)
