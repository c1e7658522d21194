"""dfw's own promises of losses and guidance, by its conformance kit."""

from __future__ import annotations

import torch
from dreamfw_multiview.guidance import Inflated, MultiView
from dreamfw_multiview.loss import MVDream
from torch import Tensor

from dfw import LossInputs
from dfw.testing import GuidanceTests, LossTests

EXACT = {"prior": {"type": "dreamfw/stable-diffusion", "precision": "fp32"}}
"""By default a CPU may compute in bf16, which is too coarse for finite differences."""


class TestMultiView(GuidanceTests):
    """With random weights, and the text encoder and autoencoder of the embedded prior."""

    views = 4
    trained = False
    prompts = ("a red cube", "a blue car")

    def make(self) -> MultiView:
        """A new one."""
        return MultiView(MultiView.Config.model_validate(EXACT))


class TestInflated(GuidanceTests):
    """The embedded prior, four views at once."""

    views = 4
    prompts = ("a red cube", "a blue car")
    expected_failures = {  # noqa: RUF012
        "test_views_of_a_scene_are_seen_together": "the prior knows cameras by the words of the prompter alone"
    }

    def make(self) -> Inflated:
        """A new one."""
        return Inflated(Inflated.Config.model_validate(EXACT))


class TestMVDream(LossTests):
    """On Gaussian data, whose clean estimate has a closed form."""

    def make(self) -> MVDream:
        """A new one, whose corrected and uncorrected estimates differ."""
        return MVDream(MVDream.Config(guidance_scale=7.5, rescale=0.3))

    def expected_gradient(self, inputs: LossInputs) -> Tensor:
        """(z - x0) / B, with E[z | z_t] = (alpha s^2 z_t + sigma^2 mu) / (alpha^2 s^2 + sigma^2) for the data N(mu, s^2)."""
        assert inputs.guidance is not None
        assert inputs.prompt is not None
        z, schedule = inputs.encoded.detach(), inputs.guidance.schedule
        t = torch.randint(20, 981, (len(z),), generator=inputs.generator)
        eps = torch.randn(z.shape, generator=inputs.generator, dtype=z.dtype)
        alpha, sigma = (values[t].to(z).view(-1, 1, 1, 1) for values in (schedule.alpha, schedule.sigma))
        noisy, s = alpha * z + sigma * eps, 0.5

        def clean(mean: Tensor) -> Tensor:
            return (alpha * s**2 * noisy + sigma**2 * mean.to(z).view(-1, 3, 1, 1)) / (alpha**2 * s**2 + sigma**2)

        plain, without = clean(inputs.prompt.positive.embedding), clean(inputs.prompt.negative.embedding)
        guided = without + 7.5 * (plain - without)
        factor = torch.stack([one.std() / other.std() for one, other in zip(plain, guided, strict=True)]).view(-1, 1, 1, 1)
        return (z - (0.3 * factor * guided + 0.7 * guided)) / len(z)
