"""Score Jacobian Chaining: distillation in the variance-exploding picture, with a denoiser instead of a noise predictor."""

from __future__ import annotations

from torch import Tensor

from dfw import Distillation, GuidedConfig, Query, Weighting


class SJC(Distillation):
    """d loss / d z = w(t) (z - D(z + s eps)) / s, s = sigma_t / alpha_t, D the denoiser; with w = 1 it is SDS, draw by draw.

    Without variance reduction z + s eps stands in place of the first z: the plain score estimator. Score Jacobian Chaining
    (Wang et al. 2023), its perturb-and-average scoring; sign of a loss, not of a score.
    """

    class Config(GuidedConfig):
        """As SDS's, with w = 1."""

        weighting: Weighting = "one"
        """w(t), by name or formula."""
        variance_reduction: bool = True
        """Measure the step from the image, not from the noisy one."""

    config: SJC.Config

    def direction(self, query: Query) -> Tensor:
        """(z - D) / s, or (z + s eps - D) / s."""
        alpha, sigma = query.alpha_sigma
        spread = sigma / alpha
        denoised = query.guidance.predict_clean(query.noisy, query.timestep, query.guided(query.now(self.config.guidance_scale)))
        start = query.clean if self.config.variance_reduction else query.clean + spread * query.noise
        return (start - denoised) / spread
