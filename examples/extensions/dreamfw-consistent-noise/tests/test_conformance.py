"""dfw's own promises of a loss and of noises, by its conformance kits."""

from __future__ import annotations

from dreamfw_consistent_noise.fsd import FSD
from dreamfw_consistent_noise.surface import Surface
from dreamfw_consistent_noise.world_map import WorldMap
from torch import Tensor

from dfw import LossInputs
from dfw.testing import LossTests, NoiseTests


class TestSurface(NoiseTests):
    """With a small table, since the kit draws a thousand."""

    component = Surface
    options = {"log2_size": 10}  # noqa: RUF012


class TestWorldMap(NoiseTests):
    """As above."""

    component = WorldMap
    options = {"log2_size": 10}  # noqa: RUF012


class TestFSD(LossTests):
    """As configured by default."""

    component = FSD
    options = {"guidance_scale": 7.5}  # noqa: RUF012

    def expected_gradient(self, inputs: LossInputs) -> Tensor:
        """(sigma / alpha) (eps_hat - eps) / B, at the timestep of the ramp after 10 of 100 steps."""
        assert inputs.guidance is not None
        assert inputs.prompt is not None
        encoded, views = inputs.encoded.detach(), len(inputs.cameras)
        noise = Surface(Surface.Config())
        noise.initialise(self.generator())
        eps = noise.double()(encoded, inputs)
        t = inputs.cameras.azimuth.new_full((views,), round(1000 * (0.98 - 0.78 * 0.1**0.5))).long()
        alpha, sigma = inputs.guidance.schedule.at(t, encoded)
        noisy = alpha * encoded + sigma * eps
        with_prompt, without = (
            inputs.guidance.predict(noisy, t, text) for text in (inputs.prompt.positive, inputs.prompt.negative)
        )
        return sigma / alpha * (without + 7.5 * (with_prompt - without) - eps) / views
