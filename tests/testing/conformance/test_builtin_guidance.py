"""The kit over the built-in guidance."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from tiny_diffusion import save_tiny_model
from torch import Tensor

from dfw import Conditioning, Guidance
from dfw.testing import GuidanceTests, Skip
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
    options: ClassVar[dict[str, Any]] = {"precision": "fp32"}  # `auto` is another type on another device


class RoundsOnTheCpu(Gaussian):
    """A model that predicts in bf16 on the CPU."""

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        output = super().predict(noisy, timestep, conditioning)
        return output.bfloat16().to(output) if output.device.type == "cpu" else output


class SaysSo(RoundsOnTheCpu):
    """The same, with the precision in its facts."""

    def facts(self) -> dict[str, Any]:
        return {"precision": "bf16" if self.means.device.type == "cpu" else "fp32"}


@pytest.mark.parametrize(
    ("kind", "outcome", "message"),
    [(RoundsOnTheCpu, AssertionError, "two devices agree"), (SaysSo, Skip, "precision bf16 here, fp32 there")],
)
def test_a_model_that_differs_between_devices_must_say_so(kind, outcome, message):
    class Kit(TestGaussian):
        component = kind

    with pytest.raises(outcome, match=message):
        Kit().test_other_device()
