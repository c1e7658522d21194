"""The kit over the built-in noises."""

from __future__ import annotations

from dfw.testing import NoiseTests
from dfw_losses.noise import Fixed, Gaussian


class TestGaussian(NoiseTests):
    component = Gaussian


class TestFixed(NoiseTests):
    component = Fixed
