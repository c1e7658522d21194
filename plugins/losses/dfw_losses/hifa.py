"""HiFA's guidance: distance to the denoised latent and to its decoded image, at timesteps that fall as a square root."""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from dfw import ConfigError, Distillation, GuidedConfig, LossInputs, Query, Ramp, Timesteps, Weighting, with_gradient


class HiFA(Distillation):
    """d loss / d z = w(t) (z - x0), and at the image x: d loss / d x = w(t) k (x - decode(x0)).

    x0 = (z_t - sigma_t eps_hat) / alpha_t. The gradient of w/2 (|z - x0|^2 + k |x - decode(x0)|^2) with x0 held fixed, summed
    over elements, averaged over views. The first part is sigma_t / alpha_t times SDS's residual. HiFA (Zhu et al. 2024),
    with its annealing of t.
    """

    class Config(GuidedConfig):
        """Timesteps, weight, guidance, and the image's share."""

        timesteps: Timesteps = Ramp.model_validate({"from": 0.98, "to": 0.2, "ease": "sqrt"})
        """As DistillationConfig's; by default t falls as the square root of the run: t_max - (t_max - t_min) sqrt(i / N)."""
        weighting: Weighting = "one"
        """w(t), by name or formula."""
        image_weight: NonNegativeFloat = 0.1
        """k: factor of the image's term, 0 for none. It costs a decoding of the denoised latents and no network call."""

    config: HiFA.Config

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar with both gradients, each clipped by itself, divided by B; its value the sum of half their squares over B."""
        encoded = inputs.encoded
        with torch.no_grad():
            query = self.query(encoded.detach(), inputs)
            clean = self._denoised(query)
            gradient = self.weighted(query.clean - clean, query)
        loss = with_gradient(encoded, gradient)
        return loss if self.config.image_weight == 0 else loss + self._image_term(query, clean)

    def direction(self, query: Query) -> Tensor:
        """z - x0."""
        return query.clean - self._denoised(query)

    def _denoised(self, query: Query) -> Tensor:
        predicted = query.guided(query.now(self.config.guidance_scale))
        return query.guidance.predict_clean(query.noisy, query.timestep, predicted)

    def _image_term(self, query: Query, clean: Tensor) -> Tensor:
        inputs = query.inputs
        if inputs.latent:
            raise ConfigError("hifa: this scene is made of latents and has no image to compare; write image_weight: 0")
        with torch.no_grad():
            away = inputs.image - query.guidance.decode_image(clean)
            gradient = self.weighted(self.config.image_weight * away, query)
        return with_gradient(inputs.image, gradient)
