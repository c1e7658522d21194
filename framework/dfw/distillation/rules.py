"""Guidance rules: how the predictions for several texts become one. Classifier-free guidance, negative prompts, Perp-Neg."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dfw.interfaces.data import Conditioning, PromptBatch
from dfw.interfaces.guidance import Guidance


def predict_each(guidance: Guidance, noisy: Tensor, timestep: Tensor, texts: Sequence[Conditioning]) -> tuple[Tensor, ...]:
    """eps(z_t; y, t) (B, C, h, w) for each of `texts` of B, all in one network call."""
    if len(texts) == 1:
        return (guidance.predict_noise(noisy, timestep, texts[0]),)
    count = len(texts)
    together = guidance.predict_noise(noisy.repeat(count, 1, 1, 1), timestep.repeat(count), Conditioning.cat(texts))
    return together.chunk(count)


def perpendicular(delta: Tensor, to: Tensor) -> Tensor:
    """The part of `delta` (B, ...) at right angles to `to` (B, ...), each view a vector: D - (D . P / |P|^2) P."""
    axes = tuple(range(1, delta.dim()))
    along = (delta * to).sum(axes, keepdim=True) / to.square().sum(axes, keepdim=True).clamp_min(torch.finfo(to.dtype).tiny)
    return delta - along * to


def towards(base: Tensor, positive: Tensor, negatives: Sequence[Tensor] = (), weights: Tensor | None = None) -> Tensor:
    """The direction of the prompt: D_p - sum_i w_i D_i^perp, with D = eps - `base`; D_p alone where there are no `negatives`.

    weights: (B, N), >= 0. Perp-Neg (Armandpour et al. 2023), section 3.
    """
    direction = positive - base
    if weights is None:
        return direction
    shape = (-1,) + (1,) * (base.dim() - 1)
    away = [
        weight.to(base).view(shape) * perpendicular(negative - base, direction)
        for negative, weight in zip(negatives, weights.unbind(1), strict=True)
    ]
    return direction - torch.stack(away).sum(0)


def guided(guidance: Guidance, noisy: Tensor, timestep: Tensor, prompt: PromptBatch, scale: float) -> Tensor:
    """eps_n + s (eps_y - eps_n), eps_n for the negative prompt (empty by default): diffusers' convention, s = 1 is no guidance.

    With Perp-Neg in the prompt the bracket is `towards`. Classifier-free guidance (Ho and Salimans 2022), s = 1 + omega.
    """
    if not prompt.negatives or scale == 0:
        return guidance.predict_noise_guided(noisy, timestep, prompt.positive, prompt.negative, scale)
    base, positive, *others = predict_each(guidance, noisy, timestep, [prompt.negative, prompt.positive, *prompt.negatives])
    return base + scale * towards(base, positive, others, prompt.negative_weights)
