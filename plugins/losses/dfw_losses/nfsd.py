"""Noise-free score distillation: the part of the residual that is noise is not distilled."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from dfw import Distillation, DistillationConfig, GuidedConfig, Query, Schedule, towards

UGLY = "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark, low-resolution, gloomy"
"""The paper's negative prompt."""


class NFSD(Distillation):
    """d loss / d z = w(t) [d_D + s (eps_y - eps_0)]; d_D, the step to the data, is eps_0 below t = 0.2 T, else eps_0 - eps_n.

    At small t the unconditional prediction holds little noise; above, that noise is estimated by the prediction for a text of
    what images out of the data look like. NFSD (Katzir et al. 2024).
    """

    class Config(GuidedConfig):
        """Timesteps, weight, scale of the prompt's direction, and the text of bad images."""

        guidance_scale: Schedule = 7.5
        """s, factor of eps_y - eps_0."""
        negative_prompt: str = UGLY
        """Text whose prediction stands for images out of the data; must be words the model knows."""
        t_clean: float = Field(default=0.2, ge=0, le=1)
        """Fraction of the timesteps below which eps_0 itself is taken as the step to the data; the paper's 200 of 1,000."""

    config: NFSD.Config

    @classmethod
    def requires(cls, config: DistillationConfig) -> frozenset[str]:
        """A noise predictor that reads text."""
        return frozenset({"noise-prediction", "text"})

    def texts(self) -> tuple[str, ...]:
        """The empty text and the negative one."""
        return ("", self.config.negative_prompt)

    def direction(self, query: Query) -> Tensor:
        """d_D + s (eps_y - eps_0), the bracket by Perp-Neg where the run asks for it."""
        prompt, config = query.prompt, self.config
        texts = [prompt.texts[""], prompt.texts[config.negative_prompt], prompt.positive, *prompt.negatives]
        base, bad, positive, *others = query.each(texts)
        clean = query.timestep < config.t_clean * len(query.guidance.schedule)
        domain = torch.where(clean.view(-1, 1, 1, 1), base, base - bad)
        return domain + query.now(config.guidance_scale) * towards(base, positive, others, prompt.negative_weights)
