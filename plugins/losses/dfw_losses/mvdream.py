"""The objective of MVDream: how far a view is from what the prior, seeing all views, says it should be.

Legend: B encoded views z (B, C, h, h), V of them a scene; z_t = alpha_t z + sigma_t eps.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from dfw import Distillation, GuidedConfig, Query, Schedule, Weighting, towards


class MVDream(Distillation):
    """d loss / d z = w(t) (z - x0), the gradient of w/2 |z - x0|^2 with x0 held fixed, averaged over views.

    x0 is the clean estimate of the guided prediction, its contrast corrected: x0 = r x0_s std(x0_1) / std(x0_s) + (1 - r) x0_s,
    where x0_s is guided with scale s and x0_1 follows the prompt alone. Standard deviations are over all views of a scene.
    MVDream (Shi et al. 2024), section 3.2; the correction is that of Lin et al. 2024, section 3.4, applied to x0.
    """

    class Config(GuidedConfig):
        """Timesteps, weight, guidance, and the correction of its contrast."""

        guidance_scale: Schedule = 50.0
        """s in eps_u + s (eps_c - eps_u), diffusers' convention."""
        weighting: Weighting = "one"
        """w(t), by name or formula."""
        rescale: float = Field(default=0.5, ge=0, le=1)
        """r: 0 keeps the contrast of the guided estimate, which grows with s; 1 gives it the unguided one's. MVDream: 0.5."""

    config: MVDream.Config

    def direction(self, query: Query) -> Tensor:
        """z - x0."""
        return query.clean - self.estimate(query)

    def estimate(self, query: Query) -> Tensor:
        """Returns x0 (B, C, h, h). A step costs one network call."""
        prompt, r = query.prompt, self.config.rescale
        base, positive, *away = query.each([prompt.negative, prompt.positive, *prompt.negatives])
        scale = query.now(self.config.guidance_scale)
        noise = base + scale * towards(base, positive, away, prompt.negative_weights)
        guided, plain = (query.guidance.predict_clean(query.noisy, query.timestep, eps) for eps in (noise, positive))
        together = query.inputs.cameras.together
        factor = _spread(plain, together) / _spread(guided, together)
        return (r * factor + 1 - r) * guided


def _spread(views: Tensor, together: int) -> Tensor:
    """Returns the standard deviation of each scene's numbers, for each of its views (B, 1, 1, 1)."""
    found = views.reshape(-1, together * views[0].numel()).std(1).clamp_min(1e-8)  # a scene of one colour has none
    return found.repeat_interleave(together).view(-1, 1, 1, 1)
