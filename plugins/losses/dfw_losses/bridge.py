"""SDS as a bridge between two distributions: first to the prompt, then from bad renderings of it to good ones."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from dfw import Distillation, DistillationConfig, GuidedConfig, Query, Schedule


class Bridge(Distillation):
    """First stage: SDS. Second stage: d loss / d z = w(t) k (eps(z_t; y good, t) - eps(z_t; y bad, t)), from source to target.

    The source distribution is described in words: what the run has made so far. SDS-Bridge (McAllister et al. 2024).
    """

    class Config(GuidedConfig):
        """Timesteps, weight, guidance of the first stage, and the two texts."""

        good: str = "{prompt}, detailed high resolution, high quality, sharp"
        """Text of the target; {prompt} is the run's, in each view's words."""
        bad: str = "{prompt}, oversaturated, smooth, pixelated, cartoon, foggy, hazy, blurry, bad structure, noisy, malformed"
        """Text of the source."""
        scale: Schedule = 40.0
        """k, factor of the second stage's direction."""
        switch: float = Field(default=0.5, ge=0, le=1)
        """Fraction of the run after which the second stage begins; 0: from the start."""

    config: Bridge.Config

    @classmethod
    def requires(cls, config: DistillationConfig) -> frozenset[str]:
        """A noise predictor that reads text."""
        return frozenset({"noise-prediction", "text"})

    def texts(self) -> tuple[str, ...]:
        """Target and source."""
        return (self.config.good, self.config.bad)

    def direction(self, query: Query) -> Tensor:
        """eps_hat - eps before the switch, k (eps_good - eps_bad) from it on."""
        config = self.config
        if query.inputs.progress.fraction < config.switch:
            return query.guided(query.now(config.guidance_scale)) - query.noise
        good, bad = query.each([query.prompt.texts[config.good], query.prompt.texts[config.bad]])
        return query.now(config.scale) * (good - bad)
