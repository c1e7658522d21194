"""Balanced score distillation: the prompt's direction and the prior's own, mixed so that neither is worked against."""

from __future__ import annotations

import torch
from torch import Tensor

from dfw import Distillation, DistillationConfig, GuidedConfig, Query, Schedule, Weighting, towards


class BSD(Distillation):
    """d loss / d z = w(t) [a g_c + (1 - a) g_0], g_c = s (eps_y - eps_0), g_0 = eps_0 for the empty text.

    a = <g_0 - g_c, g_0> / |g_0 - g_c|^2, cut to [0, 1], is each view's own: it gives the shortest of all mixtures. A step along
    that one works against neither part. It makes one network call. PlacidDreamer (Huang et al. 2024), with its code's w(t) and s.
    """

    class Config(GuidedConfig):
        """Timesteps, weight, and the length of the prompt's direction."""

        guidance_scale: Schedule = 15.0
        """s, factor of eps_y - eps_0. It gives the prompt less where it is large: the mixture is never longer than eps_0."""
        weighting: Weighting = "alpha"
        """w(t), by name or formula."""

    config: BSD.Config

    @classmethod
    def requires(cls, config: DistillationConfig) -> frozenset[str]:
        """A noise predictor that reads text."""
        return frozenset({"noise-prediction", "text"})

    def texts(self) -> tuple[str, ...]:
        """The empty text."""
        return ("",)

    def direction(self, query: Query) -> Tensor:
        """a g_c + (1 - a) g_0, the prompt's direction by Perp-Neg where the run asks for it."""
        prompt = query.prompt
        base, positive, *others = query.each([prompt.texts[""], prompt.positive, *prompt.negatives])
        classifier = query.now(self.config.guidance_scale) * towards(base, positive, others, prompt.negative_weights)
        return shortest(base, classifier)


def shortest(one: Tensor, other: Tensor) -> Tensor:
    """The shortest of all mixtures a `other` + (1 - a) `one`, a in [0, 1], of (B, ...), each view one vector.

    Multiple-gradient descent for two objectives (Desideri 2012).
    """
    axes = tuple(range(1, one.dim()))
    apart = one - other
    length = apart.square().sum(axes, keepdim=True).clamp_min(torch.finfo(one.dtype).tiny)
    share = ((apart * one).sum(axes, keepdim=True) / length).clamp(0, 1)
    return torch.lerp(one, other, share)
