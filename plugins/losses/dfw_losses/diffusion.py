"""The diffusion objective with its full gradient: the U-Net's Jacobian is not left out."""

from __future__ import annotations

import torch
from torch import Tensor

from dfw import Distillation, GuidedConfig, Query, Schedule, Weighting


class Diffusion(Distillation):
    """d loss / d z = 2 w(t) alpha_t (d eps_hat / d z_t)^T (eps_hat - eps): the gradient of w(t) |eps_hat(z_t; y, t) - eps|^2.

    The training objective read as a loss on images. It needs a graph through the network, is slow, and behaves badly at low
    noise, which is why SDS drops the Jacobian. With guidance it is another objective, no likelihood's bound, with the square of
    s (eps_y - eps_n) in it. DreamFusion (Poole et al. 2023), eq. 1 and 2.
    """

    class Config(GuidedConfig):
        """As SDS's, with w = 1 and no guidance, as in the training objective."""

        guidance_scale: Schedule = 1.0
        """s in eps_u + s (eps_c - eps_u), diffusers' convention: 1 is no guidance."""
        weighting: Weighting = "one"
        """w(t), by name or formula."""

    config: Diffusion.Config

    def direction(self, query: Query) -> Tensor:
        """2 alpha_t J^T (eps_hat - eps), by reverse-mode differentiation through the guidance."""
        with torch.enable_grad():
            clean = query.clean.detach().requires_grad_()
            noisy = query.guidance.add_noise(clean, query.noise, query.timestep)
            squared = (query.guided(query.now(self.config.guidance_scale), noisy) - query.noise).square().sum()
            (gradient,) = torch.autograd.grad(squared, clean)
        return gradient
