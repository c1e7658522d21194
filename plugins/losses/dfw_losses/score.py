"""The plain score estimator: score distillation without its control variate, for comparison."""

from __future__ import annotations

from torch import Tensor

from dfw import Distillation, GuidedConfig, Query


class Score(Distillation):
    """d loss / d z = w(t) eps_hat(z_t; y, t): the gradient of the KL divergence, unbiased, with eps not subtracted.

    Same mean as SDS, since E eps = 0, and a larger variance near convergence. DreamFusion (Poole et al. 2023), appendix A.4.
    """

    class Config(GuidedConfig):
        """As SDS's."""

    config: Score.Config

    def direction(self, query: Query) -> Tensor:
        """eps_hat."""
        return query.guided(query.now(self.config.guidance_scale))
