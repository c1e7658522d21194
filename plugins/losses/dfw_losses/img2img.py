"""A picture as the model would repaint it: noised a little, denoised in several steps, and taken as the target."""

from __future__ import annotations

import torch
from pydantic import model_validator
from torch import Tensor

from dfw import Distillation, GuidedConfig, LossInputs, Query, Ramp, Schedule, Timesteps, Weighting, with_gradient


class Img2Img(Distillation):
    """d loss / d x = w(t) (x - decode(z0)) / B at the image x; z0 by DDIM from z_t = alpha_t z + sigma_t eps in equal steps to 0.

    Half the squared distance to a fixed picture, the UV-space refinement of DreamGaussian (Tang et al. 2024, eq. 4). The target
    is what SDEdit (Meng et al. 2022) makes of the view. It moves textures, and the less noise there is the less it changes. With
    one step it is HiFA's image term. A scene of latents is compared in latents.
    """

    class Config(GuidedConfig):
        """Timesteps, weight and guidance, and in how many steps the noise goes."""

        timesteps: Timesteps = Ramp.model_validate({"from": 0.2, "to": 0.05})
        """As DistillationConfig's; by default the noise falls, as in DreamGaussian, whose strength rises from 0.8 to 0.95."""
        steps: Schedule = 10
        """Network calls from t down to 0, rounded; equal steps. DreamGaussian has 50 from the largest t: 10 falling to 2 here."""
        weighting: Weighting = "one"
        """w(t), by name or formula."""

        @model_validator(mode="after")
        def _some(self) -> Img2Img.Config:
            ends = (self.steps.from_, self.steps.to) if isinstance(self.steps, Ramp) else (self.steps,)
            if min(ends) < 1:
                raise ValueError(f"steps: {min(ends):g} denoises nothing; write 1 or more")
            return self

    config: Img2Img.Config

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar with that gradient; its value is half the squared distance of a view, in the mean."""
        seen = inputs.image
        with torch.no_grad():
            query = self.query(inputs.encoded.detach(), inputs)
            target = self._denoised(query)
            target = target if inputs.latent else query.guidance.decode_image(target)
            gradient = self.weighted(seen - target, query)
        return with_gradient(seen, gradient)

    def direction(self, query: Query) -> Tensor:
        """z - z0, in the guidance's space."""
        return query.clean - self._denoised(query)

    def _denoised(self, query: Query) -> Tensor:
        """z0 (B, C, h, w)."""
        return query.denoised(query.now(self.config.guidance_scale), max(1, round(query.now(self.config.steps))))
