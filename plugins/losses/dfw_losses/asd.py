"""Asynchronous score distillation: the prediction at a later timestep stands for the model fine-tuned on the renders."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from dfw import Distillation, GuidedConfig, Query, Schedule


class ASD(Distillation):
    """d loss / d z = w(t) [eps_hat(z_t; y, t) - eps(z_t'; y, t')], the same noise at t' = t + dt, dt in U(0, eta (t - t_min)).

    A model that knows the renders predicts their noise better; so does the same model at more noise. No second network is
    trained.
    ScaleDreamer (Ma et al. 2024).
    """

    class Config(GuidedConfig):
        """Timesteps, weight, guidance, and the shift."""

        guidance_scale: Schedule = 7.5
        """s in eps_u + s (eps_c - eps_u) of the prediction at t, diffusers' convention. The one at t' is without guidance."""
        shift: float = Field(default=0.1, ge=0, le=1)
        """eta: the largest shift as a share of t - t_min. 0: no shift."""

    config: ASD.Config

    def direction(self, query: Query) -> Tensor:
        """eps_hat(z_t) - eps_y(z_t'); dt is drawn after the noise. t' ends at the last timestep."""
        guidance, generator = query.guidance, query.inputs.generator
        last = len(guidance.schedule) - 1
        room = (query.timestep - query.now(self.config.t_min) * len(guidance.schedule)).clamp_min(0)
        together = query.inputs.cameras.together  # views that a model sees at once share their timestep
        draw = torch.rand(len(room) // together, generator=generator, device=generator.device).to(room)
        draw = draw.repeat_interleave(together)
        later = (query.timestep + torch.round(draw * self.config.shift * room).long()).clamp_max(last)
        reference = guidance.predict_noise(guidance.add_noise(query.clean, query.noise, later), later, query.prompt.positive)
        return query.guided(query.now(self.config.guidance_scale)) - reference
