"""Classifier score distillation: only the direction of the prompt, the generative prior's own score left out."""

from __future__ import annotations

from torch import Tensor

from dfw import Distillation, DistillationConfig, Query, Schedule, towards


class CSD(Distillation):
    """d loss / d z = w(t) [(eps_y - eps_0) + k (eps_0 - eps_n)]: the implicit classifier's score, eps_0 without condition.

    It is the limit of SDS / guidance_scale as the scale grows (k = 0). k > 0 pushes away from the run's negative prompt; the
    paper lowers it during the run. CSD (Yu et al. 2024), with omega_1 = 1.
    """

    class Config(DistillationConfig):
        """Timesteps, weight, and the negative prompt's share."""

        negative_scale: Schedule = 0.0
        """k: weight of the negative prompt (the run's `negative_prompt`), 0 for none; a ramp anneals it."""

    config: CSD.Config

    def texts(self) -> tuple[str, ...]:
        """No condition."""
        return ("",)

    def direction(self, query: Query) -> Tensor:
        """eps_y - eps_0 (by Perp-Neg where the run asks for it) + k (eps_0 - eps_n)."""
        prompt, share = query.prompt, query.now(self.config.negative_scale)
        texts = [prompt.texts[""], prompt.positive, *prompt.negatives]
        base, positive, *others = query.each(texts if share == 0 else [*texts, prompt.negative])
        if share == 0:
            return towards(base, positive, others, prompt.negative_weights)
        *others, negative = others
        return towards(base, positive, others, prompt.negative_weights) + share * (base - negative)
