"""A prior of clips, from one of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from dfw import ComponentConfig, Conditioning, Guidance, Part


class Steady(Guidance):
    """Each frame as another prior sees it, with clean estimates drawn towards those of the frames before and after."""

    class Config(ComponentConfig):
        """The prior of pictures, and how steady a clip is."""

        prior: Part[Guidance] = Part[Guidance](type="dreamfw/stable-diffusion", model="embedded")
        """A prior of single pictures."""
        frames: int = Field(default=4, ge=2)
        """Views of a clip; the cameras' number."""
        steadiness: float = Field(default=0.3, ge=0, le=1)
        """Share of the neighbours' mean in a frame's clean estimate."""

    config: Steady.Config

    def __init__(self, config: Steady.Config) -> None:
        super().__init__()
        self.config = config
        self.prior = config.prior.build()
        self.schedule, self.space, self.channels = self.prior.schedule, self.prior.space, self.prior.channels
        self.resolution, self.latent_resolution = self.prior.resolution, self.prior.latent_resolution

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """What the other prior provides, without an adapter, which would see single pictures."""
        provided: frozenset[str] = config.prior.cls.provides(config.prior.config)
        return provided - {"adapter"}

    @classmethod
    def sees(cls, config: Any) -> int:
        """The frames of a clip."""
        frames: int = config.frames
        return frames

    @classmethod
    def side(cls, config: Any) -> int | None:
        """As the other prior."""
        side: int | None = config.prior.cls.side(config.prior.config)
        return side

    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        """As the other prior."""
        return self.prior.encode_text(texts)

    def encode_negative(self, text: str) -> Conditioning:
        """As the other prior."""
        return self.prior.encode_negative(text)

    def unconditional(self) -> Conditioning:
        """As the other prior."""
        return self.prior.unconditional()

    def encode_image(self, image: Tensor) -> Tensor:
        """As the other prior."""
        return self.prior.encode_image(image)

    def decode_image(self, encoded: Tensor) -> Tensor:
        """As the other prior."""
        return self.prior.decode_image(encoded)

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """The noise that is left where each clean estimate is mixed with its neighbours; an end is its own neighbour."""
        noise = self.prior.predict_noise(noisy, timestep, conditioning)
        clean = self.predict_clean(noisy, timestep, noise).unflatten(0, (-1, self.config.frames))
        around = torch.cat([clean[:, :1], clean, clean[:, -1:]], 1)
        share = self.config.steadiness
        steady = ((1 - share) * clean + share * (around[:, :-2] + around[:, 2:]) / 2).flatten(0, 1)
        alpha, sigma = self.schedule.at(timestep, noisy)
        return (noisy - alpha * steady) / sigma
