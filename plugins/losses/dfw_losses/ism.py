"""Interval score matching: the difference of two predictions on one deterministic path, not the residual to drawn noise."""

from __future__ import annotations

import math

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from dfw import Distillation, GuidedConfig, Query, Schedule, Weighting, ddim_move, invert


class ISM(Distillation):
    """d loss / d z = w(t) [eps_hat(z_t; y, t) - eps(z_s; no prompt, s)], z_s and z_t from z by DDIM inversion, s = t - interval.

    The path has no drawn noise. One pass of the inversion serves both predictions. It makes inversion_steps + 2 network calls.
    LucidDreamer (Liang et al. 2024); its code's w(t) is sigma_t / alpha_t.
    gamma below 1 makes it trajectory score matching (TSM; Dreamer XL, Miao et al. 2024). Then eps(z_mu; no prompt, mu) takes the
    place of eps(z_s; no prompt, s), mu = s + (t - s) sqrt(1 - gamma^2). z_mu lies on the DDIM step from z_s to z_t. TSM makes one
    network call more.
    """

    class Config(GuidedConfig):
        """Timesteps, weight, guidance, the interval, and the place of the second prediction in it."""

        guidance_scale: Schedule = 7.5
        """s in eps_u + s (eps_c - eps_u) of the prediction at t, diffusers' convention."""
        weighting: Weighting = "sigma-over-alpha"
        """w(t), by name or formula."""
        interval: float = Field(default=0.05, gt=0, le=1)
        """t - s as a fraction of the timesteps; the paper's delta_T, 50 of 1,000. Shorter where t is smaller than it."""
        inversion_steps: PositiveInt = 3
        """Network calls of the inversion up to s, equal steps; the paper's steps of 200 of 1,000 make 1 to 5 of them."""
        gamma: float = Field(default=1, ge=0, le=1)
        """1 is ISM: the second prediction is at s. Below 1 it is TSM, whose second prediction moves to t as gamma falls to 0.
        Dreamer XL's code has 0.3."""

    config: ISM.Config

    def texts(self) -> tuple[str, ...]:
        """No condition."""
        return ("",)

    def direction(self, query: Query) -> Tensor:
        """eps_hat(z_t; y) - eps(z_s; no prompt), or at z_mu where gamma is below 1."""
        guidance, config, nothing = query.guidance, self.config, query.prompt.texts[""]
        before = (query.timestep - round(config.interval * len(guidance.schedule))).clamp_min(0)

        def predict(noisy: Tensor, timestep: Tensor) -> Tensor:
            return guidance.predict_noise(noisy, timestep, nothing)

        start = invert(guidance, query.clean, before, config.inversion_steps, predict)
        noise = predict(start, before)
        noisy = ddim_move(guidance, start, noise, before, query.timestep)
        if config.gamma < 1:
            between = before + torch.round((query.timestep - before) * math.sqrt(1 - config.gamma**2)).long()
            noise = predict(ddim_move(guidance, start, noise, before, between), between)
        return query.guided(query.now(config.guidance_scale), noisy) - noise
