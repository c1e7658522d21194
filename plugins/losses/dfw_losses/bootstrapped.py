"""Bootstrapped score distillation: the prior learns this object from its own repainted views, and is then asked about it."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from dfw import (
    Adapter,
    Conditioning,
    ConfigError,
    Guidance,
    LossInputs,
    LossSetup,
    Query,
    Schedule,
    towards,
    with_gradient,
)

from .vsd import VSD, learn


class Bootstrapped(VSD):
    """d loss / d z = w(t) [eps_psi(z_t; y, t, camera) - eps_phi(z_t; y, t, camera)], psi the prior as it has learned the object.

    phi is that of `vsd`. psi is a second adapter of the same model, asked with guidance. In the first `share` of each `cycle`
    steps this loss leaves the scene alone. The frozen model then repaints the step's views, from noise at t_max, and psi makes a
    step of the diffusion objective on them. The views get better from cycle to cycle, and so does what psi has learned.
    DreamCraft3D (Sun et al. 2024), section 3.3, with low-rank weights in place of a copy of the network.
    """

    class Config(VSD.Config):
        """That of `vsd`, and how the prior learns the object."""

        guidance_scale: Schedule = 2.0
        """s of psi in eps_u + s (eps_c - eps_u), diffusers' convention. The adapter phi is asked without guidance."""
        prior_lr: PositiveFloat = 1e-5
        """Learning rate of psi's own optimiser, AdamW with torch's defaults."""
        cycle: PositiveInt = 1000
        """Steps from one beginning of psi's lessons to the next."""
        share: float = Field(default=0.2, gt=0, lt=1)
        """Share of a cycle in which psi learns and the scene waits."""
        repaint_steps: PositiveInt = 10
        """Network calls from t_max down to 0, for each step of psi."""
        repaint_scale: Schedule = 7.5
        """s of the frozen model that repaints."""

    config: Bootstrapped.Config
    prior: Adapter | None
    prior_optimizer: torch.optim.Optimizer | None

    def __init__(self, config: Bootstrapped.Config) -> None:
        super().__init__(config)
        self.prior = self.prior_optimizer = None

    def bind(self, setup: LossSetup) -> None:
        """Makes phi, then psi, each with its optimiser."""
        super().bind(setup)
        if setup.guidance is None:
            return
        self.prior = setup.guidance.adapter(self.config.rank, setup.generator)
        self.prior_optimizer = torch.optim.AdamW(self.prior.parameters(), lr=self.config.prior_lr)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Those of phi, as `adapter`, and of psi, as `prior`."""
        return super().optimizers() | ({} if self.prior_optimizer is None else {"prior": self.prior_optimizer})

    def forward(self, inputs: LossInputs) -> Tensor:
        """As `vsd`; 0, with a gradient of 0, in steps in which psi learns."""
        if self._learns(inputs):
            return with_gradient(inputs.encoded, torch.zeros_like(inputs.encoded))
        return super().forward(inputs)

    def direction(self, query: Query) -> Tensor:
        """eps_psi, guided, minus eps_phi, at the same z_t."""
        prompt, (prior, _) = query.prompt, self._taught()
        texts = [prompt.negative, prompt.positive, *prompt.negatives]
        noisy, timestep = query.noisy.repeat(len(texts), 1, 1, 1), query.timestep.repeat(len(texts))
        output = prior(noisy, timestep, Conditioning.cat(texts))
        base, positive, *others = query.guidance.noise_of(output, noisy, timestep).chunk(len(texts))
        away = towards(base, positive, others, prompt.negative_weights)
        return base + query.now(self.config.guidance_scale) * away - self._learned(query)

    def end_step(self, inputs: LossInputs) -> None:
        """One step of phi on the renders, or of psi on the repainted ones."""
        if not self._learns(inputs):
            super().end_step(inputs)
            return
        prior, optimizer = self._taught()
        guidance, prompt = inputs.guidance, inputs.prompt
        if guidance is None or prompt is None:
            raise ConfigError(
                "the loss 'bootstrapped' asks a guidance about a prompt, and this run has none; add a guidance: section"
            )
        views, positive = self.repainted(inputs, guidance), prompt.positive
        self.log("prior", learn(prior, optimizer, views, lambda: positive, inputs))

    @torch.no_grad()
    def repainted(self, inputs: LossInputs, guidance: Guidance) -> Tensor:
        """Returns the encoded views (B, C, h, h) as the frozen model repaints them."""
        query, config = self.query(inputs.encoded.detach(), inputs), self.config
        count = len(guidance.schedule)
        top = min(count - 1, round(query.now(config.t_max) * count))
        query = replace(query, timestep=torch.full_like(query.timestep, top))
        return query.denoised(query.now(config.repaint_scale), config.repaint_steps)

    def _learns(self, inputs: LossInputs) -> bool:
        return inputs.progress.step % self.config.cycle < self.config.share * self.config.cycle

    def _taught(self) -> tuple[Adapter, torch.optim.Optimizer]:
        if self.prior is None or self.prior_optimizer is None:
            raise ConfigError("the loss 'bootstrapped' has no adapter; call bind(setup) before its first step")
        return self.prior, self.prior_optimizer
