"""Score distillation via inversion: the noise is not drawn but found by running DDIM backwards from the image."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor

from dfw import Distillation, GuidedConfig, Query, Schedule, Weighting, invert


class SDI(Distillation):
    """d loss / d z = w(t) (eps_hat(z_t; y, t) - eps_inv), z_t = alpha_t z + sigma_t eps_inv found by DDIM inversion.

    With its w(t) = sigma_t / alpha_t that is z - x0_hat(z_t): the step from the image to its own denoised one. The inversion uses
    classifier-free guidance with a negative scale. SDI (Lukoianov et al. 2024), without the noise that its code adds.
    """

    class Config(GuidedConfig):
        """Timesteps, weight, guidance, and the inversion."""

        guidance_scale: Schedule = 7.5
        """s in eps_u + s (eps_c - eps_u), diffusers' convention."""
        weighting: Weighting = "sigma-over-alpha"
        """w(t), by name or formula."""
        inversion_scale: Schedule = -7.5
        """s of the inversion, the same convention: negative, away from the prompt, as its predictions at the image must be."""
        inversion_steps: PositiveInt = 10
        """Network calls of the inversion, equal steps from 0 to t."""

    config: SDI.Config

    def direction(self, query: Query) -> Tensor:
        """eps_hat - eps_inv, in inversion_steps + 1 network calls."""
        scale = query.now(self.config.inversion_scale)
        noisy = invert(
            query.guidance, query.clean, query.timestep, self.config.inversion_steps, lambda z, t: query.guided(scale, z, t)
        )
        alpha, sigma = query.alpha_sigma
        inverted = (noisy - alpha * query.clean) / sigma
        return query.guided(query.now(self.config.guidance_scale), noisy) - inverted
