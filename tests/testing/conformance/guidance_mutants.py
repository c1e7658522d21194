"""A right guidance, small and with fixed weights, and wrong ones: each differs in one thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfw import ComponentConfig, Conditioning, Guidance, NoiseSchedule

TEXTS = ("red", "blue")


class Twin(Guidance):
    """A latent model of 4 channels: encode_image halves the side and mixes colours.

    Data given a text is N(text, diag(std^2)): the prediction is -sigma times the score of the diffused Gaussian.
    """

    class Config(ComponentConfig):
        """How large its images are."""

        resolution: int = 8
        """Pixels of a side."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        self.schedule = NoiseSchedule.from_alphas_cumprod((1 - beta).cumprod(0))
        self.space: Literal["pixel", "latent"] = "latent"
        self.resolution, self.latent_resolution, self.channels = config.resolution, config.resolution // 2, 4
        stream = torch.Generator().manual_seed(0)
        self.mix = nn.Parameter(torch.linalg.qr(torch.randn(4, 4, generator=stream))[0][:, :3].contiguous(), requires_grad=False)
        self.std = nn.Parameter(torch.tensor([0.3, 0.5, 0.2, 0.4]), requires_grad=False)

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return frozenset({"noise-prediction", "text"})

    @classmethod
    def side(cls, config: Any) -> int | None:
        return int(config.resolution)

    def renew(self) -> bool:
        return True

    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        rows = [[1.0, 0.0, 0.5, 0.0] if text == "red" else [0.0, 1.0, 0.0, -0.5] for text in texts]
        return Conditioning(torch.tensor(rows, device=self.mix.device)[:, None])

    def encode_image(self, image: Tensor) -> Tensor:
        return torch.einsum("ck,bkhw->bchw", self.mix.to(image), F.avg_pool2d(2 * image - 1, 2))

    def decode_image(self, encoded: Tensor) -> Tensor:
        small = torch.einsum("ck,bchw->bkhw", self.mix.to(encoded), encoded)
        return (F.interpolate(small, scale_factor=2, mode="bilinear") / 2 + 0.5).clamp(0, 1)

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        alpha, sigma = self.schedule.at(timestep, noisy)
        mean, std = conditioning.embedding.to(noisy).view(-1, 4, 1, 1), self.std.to(noisy).view(4, 1, 1)
        return sigma * (noisy - alpha * mean) / (alpha**2 * std**2 + sigma**2)


class SwappedSchedule(Twin):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.schedule = NoiseSchedule(self.schedule.sigma, self.schedule.alpha)


class NotSquared(Twin):
    """alpha and sigma sum to 1, in place of their squares."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.schedule = NoiseSchedule(self.schedule.alpha**2, 1 - self.schedule.alpha**2)


class Unfrozen(Twin):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.std.requires_grad_(True)


class BatchNormalises(Twin):
    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        output = super().predict(noisy, timestep, conditioning)
        return output - 0.1 * output.mean(dim=0, keepdim=True)


class DeafToThePrompt(Twin):
    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        return super().predict(noisy, timestep, replace(conditioning, embedding=torch.zeros_like(conditioning.embedding)))


class MixesTheTextsUp(Twin):
    """Every row of a batch has the first text."""

    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        return super().encode_text([texts[0]] * len(texts))


class CutsTheGradient(Twin):
    def encode_image(self, image: Tensor) -> Tensor:
        return super().encode_image(image).detach()


class WrongSlope(Twin):
    """The gradient of encode_image misses the factor 2 of its scaling."""

    def encode_image(self, image: Tensor) -> Tensor:
        return super().encode_image((image + image.detach()) / 2)


class DrawsThePosterior(Twin):
    def encode_image(self, image: Tensor) -> Tensor:
        mean = super().encode_image(image)
        return mean + 0.01 * torch.randn_like(mean)


class Drops(Twin):
    """Dropout in training mode."""

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        return F.dropout(super().predict(noisy, timestep, conditioning), 0.1, self.training)


class CountsItsCalls(Twin):
    """A buffer that training-mode calls change, as a BatchNorm's."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.register_buffer("calls", torch.zeros(()))

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        if self.training:
            self.calls += 1
        return super().predict(noisy, timestep, conditioning)


class ForgetsToScaleBack(Twin):
    def decode_image(self, encoded: Tensor) -> Tensor:
        return super().decode_image(encoded * 0.2)


class OffByOneScale(Twin):
    """eps_c + s (eps_c - eps_u): the papers' omega, not diffusers' scale."""

    def predict_noise_guided(
        self, noisy: Tensor, timestep: Tensor, conditional: Conditioning, unconditional: Conditioning, guidance_scale: float
    ) -> Tensor:
        return super().predict_noise_guided(noisy, timestep, conditional, unconditional, guidance_scale + 1)


class VarianceForDeviation(Twin):
    """Noise is scaled with sigma^2."""

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        alpha, sigma = self.schedule.at(timestep, clean)
        return alpha * clean + sigma**2 * noise


class TakesVForEpsilon(Twin):
    prediction_type = "v_prediction"

    def predict_noise(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        return self.predict(noisy, timestep, conditioning)


class SaysTheLatentsSide(Twin):
    @classmethod
    def side(cls, config: Any) -> int | None:
        return int(config.resolution) // 2


class GivesMinusOneToOne(Twin):
    def decode_image(self, encoded: Tensor) -> Tensor:
        return 2 * super().decode_image(encoded) - 1


class KeepsItsWeightsOnTheCpu(Twin):
    """Weights in a plain attribute: frozen, and left behind when the model moves."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.bias = torch.full((4, 1, 1), 0.01)

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        return super().predict(noisy, timestep, conditioning) + self.bias.to(noisy.dtype)


class KeepsItsTexts(Twin):
    """What it answers depends on the text that it read first, and `renew` does not forget that."""

    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        self.first = vars(self).get("first", texts[0])
        found = super().encode_text(texts)
        return replace(found, embedding=found.embedding * (1.01 if self.first == "blue" else 1.0))


MUTANTS: dict[type[Twin], set[str]] = {
    KeepsItsWeightsOnTheCpu: {"test_other_device"},
    SwappedSchedule: {"test_schedule", "test_predicts_the_noise"},
    NotSquared: {"test_schedule"},
    Unfrozen: {"test_frozen"},
    BatchNormalises: {"test_batch_invariance", "test_guidance_scale_follows_diffusers"},  # both prompts share one batch
    DeafToThePrompt: {"test_prompt_changes_the_prediction"},
    MixesTheTextsUp: {"test_batch_invariance"},
    CutsTheGradient: {"test_encode_is_differentiable"},
    WrongSlope: {"test_encode_is_differentiable"},
    DrawsThePosterior: {
        "test_no_global_rng",
        "test_deterministic",
        "test_same_seed_same_result",
        "test_state_dict_restores_behaviour",
        "test_float64",
        "test_other_device",
        "test_frozen",
        "test_batch_invariance",
        "test_encode_is_differentiable",
        "test_renewed_it_is_as_new",
    },
    Drops: {"test_frozen", "test_no_global_rng", "test_state_dict_restores_behaviour", "test_renewed_it_is_as_new"},
    CountsItsCalls: {"test_frozen"},
    KeepsItsTexts: {"test_renewed_it_is_as_new"},
    ForgetsToScaleBack: {"test_decode_inverts_encode"},
    OffByOneScale: {"test_guidance_scale_follows_diffusers"},
    VarianceForDeviation: {"test_noise_round_trip"},
    TakesVForEpsilon: {"test_predict_noise_follows_the_prediction_type"},
    SaysTheLatentsSide: {"test_shapes"},
    GivesMinusOneToOne: {"test_shapes", "test_decode_inverts_encode"},
}
"""Wrong guidance -> the checks that catch it, and no other."""
