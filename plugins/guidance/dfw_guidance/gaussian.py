"""A score model in closed form: each prompt is a Gaussian around an image. The exact answer to every question a loss can ask.

Legend: B images, K components (one per prompt), C = 3 channels of side h.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, PositiveFloat, PositiveInt, field_validator
from torch import Tensor

from dfw import ComponentConfig, Conditioning, Guidance, GuidanceError, NoiseSchedule, PromptError

Colour = tuple[float, float, float]


class Gaussian(Guidance):
    """The ideal noise predictor for data that is N(mu, s^2 I) given a prompt, and their even mixture given none.

    For one Gaussian eps(z, t) = sigma_t (z - alpha_t mu) / (alpha_t^2 s^2 + sigma_t^2); for a mixture the components'
    predictions, weighted with their posterior probabilities. Pixels, with colours from [0, 1] spread to [-1, 1]. Diffuses as DDPM
    (Ho et al. 2020): 1,000 steps, variances from 1e-4 to 0.02.
    """

    class Config(ComponentConfig):
        """Which prompts it knows, and what they look like."""

        means: dict[str, Colour | str] = Field(min_length=1)
        """Prompt -> its mean: a colour [r, g, b] in [0, 1], or an image file. View words may follow a prompt after a comma."""
        std: PositiveFloat = 0.1
        """s: standard deviation of each pixel around its mean, in units where black is -1 and white is 1."""
        resolution: PositiveInt = 16
        """Side of the images, pixels."""

        @field_validator("means")
        @classmethod
        def _colours(cls, value: dict[str, Colour | str]) -> dict[str, Colour | str]:
            for text, mean in value.items():
                if not text.strip():
                    raise ValueError("the empty prompt is the mixture of all others; give means for prompts with words")
                if not isinstance(mean, str) and not all(0 <= part <= 1 for part in mean):
                    raise ValueError(f"{text!r}: {list(mean)} must have three numbers in [0, 1]")
            return value

    config: Gaussian.Config

    @classmethod
    def provides(cls, config: Gaussian.Config) -> frozenset[str]:
        """It predicts noise, and reads the texts it was given."""
        return frozenset({"noise-prediction", "text"})

    def __init__(self, config: Gaussian.Config) -> None:
        super().__init__()
        self.config = config
        beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        self.schedule = NoiseSchedule.from_alphas_cumprod((1 - beta).cumprod(0))
        self.space: Literal["pixel", "latent"] = "pixel"
        self.resolution = self.latent_resolution = config.resolution
        self.channels = 3
        self.texts = tuple(config.means)
        self.means: Tensor
        images = [_mean_image(mean, config.resolution) for mean in config.means.values()]
        self.register_buffer("means", 2 * torch.stack(images) - 1, persistent=False)

    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        """Probabilities (B, 1, K) of the components: one of them for a known prompt, all alike for the empty text.

        Raises PromptError for other texts.
        """
        rows = torch.tensor([self._probabilities(text) for text in texts], device=self.means.device)
        return Conditioning(rows[:, None])

    def _probabilities(self, text: str) -> list[float]:
        if not text:
            return [1 / len(self.texts)] * len(self.texts)
        known = [known for known in self.texts if text == known or text.startswith(f"{known},")]
        if not known:
            raise PromptError(f"prompt: no mean for {text!r}; known: {', '.join(self.texts)}. Add it to guidance.means")
        chosen = max(known, key=len)
        return [float(known == chosen) for known in self.texts]

    def encode_image(self, image: Tensor) -> Tensor:
        """Images (B, 3, h, h) in [0, 1] -> the same in [-1, 1]."""
        return 2 * image - 1

    def decode_image(self, encoded: Tensor) -> Tensor:
        """Images (B, 3, h, h) in [-1, 1] -> the same in [0, 1], clipped."""
        return (encoded / 2 + 0.5).clamp(0, 1)

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """The ideal eps(z_t; y, t) (B, 3, h, h): -sigma_t times the score of the diffused density."""
        alpha, sigma = self.schedule.at(timestep, noisy)
        variance = alpha**2 * self.config.std**2 + sigma**2
        away_BKCHW = noisy[:, None] - alpha[:, None] * self.means.to(noisy)
        likelihood_BK = -away_BKCHW.square().sum((2, 3, 4)) / (2 * variance.flatten(1))
        posterior_BK = (conditioning.embedding[:, 0].to(noisy).log() + likelihood_BK).softmax(-1)
        return sigma * (posterior_BK[..., None, None, None] * away_BKCHW).sum(1) / variance

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Gaussian:
        """Moves with `.to(device)`, the schedule included."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.schedule = self.schedule.to(self.means.device)
        return self


def _mean_image(mean: Colour | str, side: int) -> Tensor:
    """(3, side, side) in [0, 1] from a colour or an image file."""
    if not isinstance(mean, str):
        return torch.tensor(mean)[:, None, None].expand(3, side, side)
    path = Path(mean).expanduser()
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), dtype=np.float32)
    except OSError as error:
        raise GuidanceError(f"guidance.means: cannot read the image {str(path)!r}: {error}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255
