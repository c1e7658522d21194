"""Posterior distillation sampling: scene and source should have the same stochastic latents."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor

from dfw import ConfigError, LossSetup, NoiseSchedule, Query
from dreamfw_editing.source import Edit, EditConfig


class PDS(Edit):
    """d loss / d z = w(t) [psi(t) (z - z_src) + chi(t) (eps_hat(z_t; y) - eps_hat(z_t^src; y_src))].

    The difference of the stochastic latents (x_s - mu(x_t, eps_hat)) / sigma_t of scene and source, written out for shared noise.
    psi holds the scene to its source. For neighbouring DDPM steps, s = t - 1, it is exactly 0, and PDS is DDS with another
    weight. The authors' code takes beta of one step and a latent two steps back, which gives it its hold: `stride`.
    PDS (Koo et al. 2024), eq. 9 and 10.
    """

    class Config(EditConfig):
        """Timesteps, weight, guidance, the source's prompt, and the distance of the two latents."""

        stride: PositiveInt = 2
        """t - s in timesteps. 2 as in the authors' code (500 of 1,000 timesteps); 1: neighbouring steps, and no hold at all."""

    config: Config

    def bind(self, setup: LossSetup) -> None:
        """As `Edit`. Raises ConfigError for a schedule that does not preserve variance, which DDPM's posterior assumes."""
        super().bind(setup)
        if setup.guidance is not None:
            schedule = setup.guidance.schedule
            total = schedule.alpha.double().square() + schedule.sigma.double().square()
            if not bool(torch.allclose(total, torch.ones_like(total), atol=1e-4)):
                raise ConfigError("pds is made of DDPM's posterior, and this guidance is not a DDPM (a flow, say); use dds")

    def direction(self, query: Query) -> Tensor:
        """psi (z - z_src) + chi (eps_hat - eps_hat of the source)."""
        source = self.source(query.inputs)
        hold, drive = posterior_weights(query.guidance.schedule, query.timestep, self.config.stride)
        ours, theirs = self.both(query, source)
        shape = (-1, 1, 1, 1)
        return hold.to(source).view(shape) * (query.clean - source) + drive.to(source).view(shape) * (ours - theirs)


def posterior_weights(schedule: NoiseSchedule, timestep: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """psi and chi (B,), float64, at `timestep` (B,) >= 1, for a latent at s = t - stride (at least 0).

    With a = alpha, b_t = 1 - a_t^2 / a_{t-1}^2 of one step: c0 = a_s b_t / sigma_t^2, c1 = sqrt(1 - b_t) sigma_s^2 / sigma_t^2,
    v^2 = b_t sigma_s^2 / sigma_t^2, psi = (a_s - c0 - c1 a_t) / v, chi = c0 sigma_t / (a_t v). DDPM (Ho et al. 2020), eq. 7.
    """
    alpha, sigma = schedule.alpha.double(), schedule.sigma.double()
    now = timestep.to(alpha.device).clamp_min(1)
    before = (now - stride).clamp_min(0)
    a_t, a_s, s_t, s_s = alpha[now], alpha[before], sigma[now].square(), sigma[before].square()
    beta = 1 - a_t.square() / alpha[now - 1].square()
    c0, c1 = a_s * beta / s_t, (1 - beta).sqrt() * s_s / s_t
    deviation = (beta * s_s / s_t).sqrt()
    return (a_s - c0 - c1 * a_t) / deviation, c0 * s_t.sqrt() / (a_t * deviation)
