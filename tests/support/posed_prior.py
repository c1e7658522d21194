"""A prior without text, known exactly: what a scene looks like from each camera is one Gaussian of grey pictures."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from dfw import CameraBatch, ComponentConfig, Conditioning, Guidance, NoiseSchedule

STD = 0.3


class Posed(Guidance):
    """N(mu, s^2) in [-1, 1], mu = cos(azimuth) / 2 + (mean elevation of the scene's views) / 180; 0 without condition.

    It sees `views` of a scene at once, and refuses a batch whose timesteps, or cameras of several views, say otherwise.
    """

    class Config(ComponentConfig):
        """How much it sees."""

        views: PositiveInt = 1
        """Views of a scene that it sees at once."""
        resolution: PositiveInt = 2
        """Pixels."""

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """Noise; it reads no text."""
        return frozenset({"noise-prediction"})

    @classmethod
    def sees(cls, config: Any) -> int:
        """As configured."""
        return int(config.views)

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        self.schedule = NoiseSchedule.from_alphas_cumprod((1 - beta).cumprod(0))
        self.space: Literal["pixel", "latent"] = "pixel"
        self.resolution = self.latent_resolution = config.resolution
        self.channels = 3

    def conditional(self) -> Conditioning:
        """1: as the cameras say."""
        return Conditioning(torch.ones(1, 1, 1))

    def unconditional(self) -> Conditioning:
        """0."""
        return Conditioning(torch.zeros(1, 1, 1))

    def encode_image(self, image: Tensor) -> Tensor:
        """[0, 1] -> [-1, 1]."""
        return 2 * image - 1

    def decode_image(self, encoded: Tensor) -> Tensor:
        """[-1, 1] -> [0, 1]."""
        return (encoded / 2 + 0.5).clamp(0, 1)

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """sigma (z - alpha mu) / (alpha^2 s^2 + sigma^2)."""
        cameras, views = conditioning.cameras, self.config.views
        if cameras is None or (views > 1 and cameras.together != views):
            raise ValueError(f"asked without cameras in groups of {views}")
        if bool((timestep.view(-1, views) != timestep.view(-1, views)[:, :1]).any()):
            raise ValueError("timesteps differ within a scene")
        mean = (conditioning.embedding[:, 0, 0].to(noisy) * mu(cameras, views).to(noisy)).view(-1, 1, 1, 1)
        alpha, sigma = self.schedule.at(timestep, noisy)
        return sigma * (noisy - alpha * mean) / (alpha**2 * STD**2 + sigma**2)


def mu(cameras: CameraBatch, views: int) -> Tensor:
    """The mean grey (B,) in [-1, 1] that each camera sees."""
    together = cameras.elevation.view(-1, views).mean(1).repeat_interleave(views)
    return torch.deg2rad(cameras.azimuth).cos() / 2 + together / 180
