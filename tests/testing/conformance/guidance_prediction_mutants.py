"""More wrong guidance: what it predicts, and what it does to its inputs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from guidance_mutants import Twin
from torch import Tensor

from dfw import Conditioning, NoiseSchedule


class Predicts(Twin):
    """Hands its prediction to `change`."""

    def change(self, noise: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        return noise

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        return self.change(super().predict(noisy, timestep, conditioning), noisy, timestep)


class GivesTheScore(Predicts):
    def change(self, noise: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        return -noise


class GivesTheCleanImage(Predicts):
    """x0, and says epsilon."""

    def change(self, noise: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        return self.predict_clean(noisy, timestep, noise)


class Transposes(Predicts):
    def change(self, noise: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        return noise.transpose(2, 3)


class ReversesItsChannels(Predicts):
    def change(self, noise: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        return noise.flip(1)


class SpoilsWhatItWasGiven(Predicts):
    def change(self, noise: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        noisy.mul_(0.5)
        return noise


class CountsTimeBackwards(Twin):
    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        return super().predict(noisy, len(self.schedule) - 1 - timestep, conditioning)


class IgnoresTime(Twin):
    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        return super().predict(noisy, torch.full_like(timestep, 500), conditioning)


class IgnoresTheNoisyImage(Twin):
    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        return super().predict(torch.zeros_like(noisy), timestep, conditioning)


class Flow(Predicts):
    """A right rectified flow: eps - x0."""

    prediction_type = "flow"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.schedule = NoiseSchedule.from_flow(torch.linspace(0.001, 0.999, 1000))

    def change(self, noise: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        return self.target(self.predict_clean(noisy, timestep, noise), noise, timestep)


class FlowBackwards(Flow):
    """x0 - eps."""

    def change(self, noise: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        return -super().change(noise, noisy, timestep)


class Velocity(Predicts):
    """A right model of v = alpha eps - sigma x0."""

    prediction_type = "v_prediction"

    def change(self, noise: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        return self.target(self.predict_clean(noisy, timestep, noise), noise, timestep)


class VelocityBackwards(Velocity):
    def change(self, noise: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        return -super().change(noise, noisy, timestep)


class Sample(Velocity):
    """A right model of x0."""

    prediction_type = "sample"


class SampleIsNoise(Predicts):
    prediction_type = "sample"


class EditsItsText(Twin):
    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        conditioning.embedding.mul_(0.999)
        return super().predict(noisy, timestep, conditioning)


class DecodesInPlace(Twin):
    def decode_image(self, encoded: Tensor) -> Tensor:
        return super().decode_image(encoded.clamp_(-2, 2))


class ForgetsToClamp(Twin):
    """Right for all that it has encoded itself."""

    def decode_image(self, encoded: Tensor) -> Tensor:
        small = torch.einsum("ck,bchw->bkhw", self.mix.to(encoded), encoded)
        return F.interpolate(small, scale_factor=2, mode="bilinear") / 2 + 0.5


class SwitchesGradientsOff(Twin):
    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        torch.set_grad_enabled(False)
        return super().predict(noisy, timestep, conditioning)


MUTANTS: dict[type[Twin], set[str]] = {
    GivesTheScore: {"test_predicts_the_noise"},
    GivesTheCleanImage: {"test_predicts_the_noise"},
    Transposes: {"test_predicts_the_noise"},
    ReversesItsChannels: {"test_predicts_the_noise"},
    SpoilsWhatItWasGiven: {
        "test_leaves_its_inputs_alone",
        "test_predict_noise_follows_the_prediction_type",
        "test_guidance_scale_follows_diffusers",
        "test_batch_invariance",
    },
    CountsTimeBackwards: {"test_predicts_the_noise"},
    IgnoresTime: {"test_timestep_changes_the_prediction"},
    IgnoresTheNoisyImage: {"test_predicts_the_noise", "test_noisy_image_changes_the_prediction"},
    FlowBackwards: {"test_predicts_the_noise"},
    VelocityBackwards: {"test_predicts_the_noise"},
    SampleIsNoise: {"test_predicts_the_noise"},
    EditsItsText: {"test_leaves_its_inputs_alone", "test_predict_noise_follows_the_prediction_type"},
    DecodesInPlace: {"test_leaves_its_inputs_alone"},
    ForgetsToClamp: {"test_shapes"},
    SwitchesGradientsOff: {"test_leaves_its_inputs_alone"},
}
"""As its neighbour's."""
