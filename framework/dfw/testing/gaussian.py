"""A score model in closed form, for the checks of losses: what an ideal network would say of data that is Gaussian."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from dfw.errors import PromptError
from dfw.interfaces.component import ComponentConfig
from dfw.interfaces.data import Conditioning, NoiseSchedule
from dfw.interfaces.guidance import Adapter, Guidance


class GaussianScore(Guidance):
    """Data given a prompt is N(mu, s^2 I): eps(z, t) = sigma_t (z - alpha_t mu) / (alpha_t^2 s^2 + sigma_t^2), exactly.

    Prompts "left" and "right" have a mean each, the empty one the mean of both. Pixels (B, 3, side, side), spread to [-1, 1].
    Diffuses as DDPM (Ho et al. 2020): 1,000 steps, variances from 1e-4 to 0.02.
    """

    TEXTS = ("left", "right", "")

    def __init__(self, side: int = 2, std: float = 0.5) -> None:
        super().__init__()
        self.config = ComponentConfig()
        beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        self.schedule = NoiseSchedule.from_alphas_cumprod((1 - beta).cumprod(0))
        self.space: Literal["pixel", "latent"] = "pixel"
        self.resolution = self.latent_resolution = side
        self.channels = 3
        self.std = std
        means = torch.tensor([[0.6, -0.4, 0.2], [-0.7, 0.5, 0.1], [-0.05, 0.05, 0.15]])
        self.means = nn.Parameter(means.view(3, 1, 3), requires_grad=False)

    @classmethod
    def provides(cls, config: object) -> frozenset[str]:
        """It predicts noise, reads its three texts, and can be adapted."""
        return frozenset({"noise-prediction", "text", "adapter"})

    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        """The means themselves, (B, 1, 3)."""
        unknown = [text for text in texts if text not in self.TEXTS]
        if unknown:
            raise PromptError(f"prompt: no mean for {unknown[0]!r}; known: {', '.join(map(repr, self.TEXTS))}")
        return Conditioning(self.means[[self.TEXTS.index(text) for text in texts]])

    def encode_image(self, image: Tensor) -> Tensor:
        """Images in [0, 1] -> the same in [-1, 1]."""
        return 2 * image - 1

    def decode_image(self, encoded: Tensor) -> Tensor:
        """Images in [-1, 1] -> the same in [0, 1], clipped."""
        return (encoded / 2 + 0.5).clamp(0, 1)

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """The ideal noise prediction."""
        alpha_sigma = self.schedule.at(timestep, noisy)
        return _ideal_noise(noisy, alpha_sigma, conditioning.embedding, noisy.new_tensor(self.std))

    def adapter(self, rank: int, generator: torch.Generator) -> Adapter:
        """The same formula, its means moved by trainable numbers and its s trainable."""
        return GaussianScoreAdapter(self.schedule, self.std).to(self.means.device)


class GaussianScoreAdapter(Adapter):
    """The ideal noise prediction for N(mu + shift, s^2 I), `shift` (3,) and `log_std` () trainable. Reads no camera."""

    def __init__(self, schedule: NoiseSchedule, std: float) -> None:
        super().__init__()
        self._schedule = schedule
        self.shift = nn.Parameter(torch.zeros(3))
        self.log_std = nn.Parameter(torch.tensor(std).log())

    def forward(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """eps (B, 3, side, side)."""
        alpha_sigma = self._schedule.at(timestep, noisy)
        return _ideal_noise(noisy, alpha_sigma, conditioning.embedding + self.shift, self.log_std.to(noisy).exp())


def _ideal_noise(noisy: Tensor, alpha_sigma: tuple[Tensor, Tensor], means: Tensor, std: Tensor) -> Tensor:
    """sigma_t (z_t - alpha_t mu) / (alpha_t^2 s^2 + sigma_t^2) for means (B, 1, 3)."""
    alpha, sigma = alpha_sigma
    mean = means.to(noisy).view(-1, 3, 1, 1)
    return sigma * (noisy - alpha * mean) / (alpha**2 * std**2 + sigma**2)
