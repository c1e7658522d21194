"""Score distillation sampling: the diffusion model's noise residual as the gradient of an image."""

from __future__ import annotations

import torch
from pydantic import model_validator
from torch import Tensor

from dfw import ComponentConfig, ConfigError, Loss, LossInputs, Schedule, value_at
from dfw_losses.gradient import with_gradient
from dfw_losses.timesteps import check_range, sample_timesteps, timestep_range
from dfw_losses.weighting import Weighting, weight_at


class SDS(Loss):
    """d loss / d z = w(t) (eps_hat(z_t; y, t) - eps), the U-Net's Jacobian left out. DreamFusion (Poole et al. 2023), eq. 3."""

    class Config(ComponentConfig):
        """Timesteps, weight and guidance of score distillation."""

        guidance_scale: Schedule = 100.0
        """s in eps_u + s (eps_c - eps_u), diffusers' convention: 1 is no guidance. Papers' omega is s - 1."""
        t_min: Schedule = 0.02
        """Lower end of the timesteps, as a fraction of all of them; may be a ramp."""
        t_max: Schedule = 0.98
        """Upper end of the timesteps, as a fraction; a ramp such as {from: 0.98, to: 0.5} anneals it."""
        weighting: Weighting = "sigma2"
        """w(t): sigma2 (DreamFusion), one, alpha-sigma2, sigma-over-alpha."""

        @model_validator(mode="after")
        def _check(self) -> SDS.Config:
            check_range(self.t_min, self.t_max)
            return self

    config: SDS.Config

    @classmethod
    def requires(cls, config: SDS.Config) -> frozenset[str]:
        """A noise predictor."""
        return frozenset({"noise-prediction"})

    def __init__(self, config: SDS.Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar with gradient w(t) (eps_hat - eps) / B at each encoded view and value sum |w (eps_hat - eps)|^2 / (2 B)."""
        encoded = inputs.encoded
        return with_gradient(encoded, self.residual(encoded.detach(), inputs))

    @torch.no_grad()
    def residual(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        """w(t) (eps_hat - eps) for encoded views (B, C, h, w), with t and eps drawn from `inputs.generator`."""
        guidance, prompt = inputs.guidance, inputs.prompt
        if guidance is None or prompt is None:
            raise ConfigError("the loss 'sds' asks a guidance about a prompt, and this run has none; add a guidance: section")
        config, generator = self.config, inputs.generator
        low, high = timestep_range(config.t_min, config.t_max, len(guidance.schedule), inputs.progress)
        timestep = sample_timesteps(len(encoded), low, high, generator, encoded.device)
        noise = torch.randn(encoded.shape, generator=generator, device=generator.device, dtype=encoded.dtype).to(encoded.device)
        predicted = guidance.predict_noise_guided(
            guidance.add_noise(encoded, noise, timestep),
            timestep,
            prompt.positive,
            prompt.negative,
            value_at(config.guidance_scale, inputs.progress),
        )
        return weight_at(config.weighting, guidance.schedule, timestep, encoded) * (predicted - noise)
