"""The kit over the built-in guidance."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from tiny_diffusion import save_tiny_model

from dfw import Guidance
from dfw.testing import GuidanceTests
from dfw_guidance.gaussian import Gaussian
from dfw_guidance.stable_diffusion import StableDiffusion


class TestGaussian(GuidanceTests):
    component = Gaussian
    options: ClassVar[dict[str, Any]] = {
        "means": {"red": (0.9, 0.2, 0.1), "blue": (0.1, 0.2, 0.8)},
        "std": 0.5,
        "resolution": 4,
    }
    prompts = ("red", "")


class TestTinyStableDiffusion(GuidanceTests):
    prompts = ("a red car", "a blue cube")
    trained, round_trip = False, None  # its weights are random
    prediction: ClassVar[str] = "epsilon"
    folder: ClassVar[Path]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def model(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.folder = save_tiny_model(tmp_path_factory.mktemp("models") / "tiny", cls.prediction)

    def make(self) -> Guidance:
        return StableDiffusion(StableDiffusion.Config(model=str(self.folder), precision="fp32"))


class TestTinyVPrediction(TestTinyStableDiffusion):
    prediction = "v_prediction"


class TestEmbedded(GuidanceTests):
    component = StableDiffusion
