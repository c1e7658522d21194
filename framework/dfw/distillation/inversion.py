"""DDIM run backwards: the noise that would have led to an image, deterministically."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dfw.interfaces.guidance import Guidance

Predictor = Callable[[Tensor, Tensor], Tensor]
"""(z_t, t) -> eps."""


def ddim_move(guidance: Guidance, noisy: Tensor, noise: Tensor, timestep: Tensor, to: Tensor) -> Tensor:
    """z_t' = alpha_t' x0 + sigma_t' eps with x0 = (z_t - sigma_t eps) / alpha_t: one step of DDIM (eta = 0), in either direction.

    Song et al. 2021, eq. 12 and 13. Holds for any alpha, sigma, not for variance-preserving schedules alone.
    """
    return guidance.add_noise(guidance.predict_clean(noisy, timestep, noise), noise, to)


def invert(guidance: Guidance, clean: Tensor, timestep: Tensor, steps: int, predict: Predictor) -> Tensor:
    """z_t at `timestep` (B,) that DDIM denoises to `clean` (B, C, h, w), by `steps` equal steps up and as many network calls.

    The first step leaves the clean image, where x0 is known, with the noise the network sees at timestep 0. Nothing is drawn.
    Dhariwal and Nichol 2021, appendix F; Lukoianov et al. 2024, section 4 (SDI).
    """
    noise = predict(clean, torch.zeros_like(timestep))
    at = fraction(timestep, 1, steps)
    noisy = guidance.add_noise(clean, noise, at)
    for step in range(2, steps + 1):
        after = fraction(timestep, step, steps)
        noisy = ddim_move(guidance, noisy, predict(noisy, at), at, after)
        at = after
    return noisy


def fraction(timestep: Tensor, step: int, steps: int) -> Tensor:
    """round(t step / steps), int64."""
    return torch.round(timestep.double() * (step / steps)).long()
