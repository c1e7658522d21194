"""A score model in closed form: each prompt is a mixture of Gaussians, so every prediction is exact.

The legend of shapes is that of `dfw_guidance.mixture`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator
from torch import Tensor

from dfw import Adapter, ComponentConfig, Conditioning, Guidance, GuidanceError, LocalPath, NoiseSchedule, PromptError
from dfw_guidance.mixture import GaussianAdapter, ideal_noise

Colour = tuple[float, float, float]

LARGEST = 768  # a full covariance has the square of this many numbers, and costs its cube to decompose
"""Largest image (3 x 16 x 16 numbers) that may have a full covariance."""


class Component(ComponentConfig):
    """One Gaussian of a mixture."""

    mean: Colour | LocalPath
    """A colour [r, g, b] in [0, 1], or an image file."""
    weight: PositiveFloat = 1.0
    """Its share among the prompt's components; shares are divided by their sum."""
    std: PositiveFloat | None = None
    """Standard deviation of each pixel, where black is -1 and white 1; by default the guidance's `std`. Excludes `covariance`."""
    covariance: tuple[tuple[float, ...], ...] | None = None
    """Full covariance instead, symmetric and positive definite. 3 x 3: over red, green and blue, the same at every pixel. d x d:
    over all d = 3 h h numbers (channels, then rows, then columns)."""

    @field_validator("mean")
    @classmethod
    def _colour(cls, value: Colour | str) -> Colour | str:
        if not isinstance(value, str) and not all(0 <= part <= 1 for part in value):
            raise ValueError(f"{list(value)} must have three numbers in [0, 1]")
        return value

    @model_validator(mode="after")
    def _spread(self) -> Component:
        if self.covariance is None:
            return self
        if self.std is not None:
            raise ValueError("give either std or covariance, not both")
        if any(len(row) != len(self.covariance) for row in self.covariance):
            raise ValueError("covariance must be square; give each row as many numbers as there are rows")
        matrix = torch.tensor(self.covariance, dtype=torch.float64)
        if not torch.allclose(matrix, matrix.T, rtol=1e-9, atol=1e-12) or not bool((torch.linalg.eigvalsh(matrix) > 0).all()):
            raise ValueError(
                "covariance must be symmetric with eigenvalues above 0, e.g. [[.04, .02, 0], [.02, .04, 0], [0, 0, .01]]"
            )
        return self


class Gaussian(Guidance):
    """The ideal noise predictor for data that is a mixture of Gaussians for each prompt.

    The empty prompt stands for the mixture of all prompts. For one N(mu, S) it is
    eps(z, t) = sigma_t (alpha_t^2 S + sigma_t^2 I)^-1 (z - alpha_t mu). A mixture weights its components' predictions with their
    posterior probabilities at z. It works in pixels, with colours mapped from [0, 1] to [-1, 1]. Noise is DDPM's (Ho et al.
    2020): 1,000 steps, variances from 1e-4 to 0.02.
    """

    class Config(ComponentConfig):
        """Which prompts it knows, and what they look like."""

        means: dict[str, Colour | LocalPath | Component | tuple[Component, ...]] = Field(min_length=1)
        """Prompt -> its mean: a colour [r, g, b] in [0, 1], an image file, or {mean, std, covariance}. A list of those, each
        with a weight, is a mixture. View words may follow a prompt after a comma."""
        std: PositiveFloat = 0.1
        """Standard deviation s of each pixel around its mean, in units where black is -1 and white is 1."""
        resolution: PositiveInt = 16
        """Side of the images, pixels."""

        @field_validator("means")
        @classmethod
        def _prompts(cls, value: dict[str, object]) -> dict[str, object]:
            for text, mean in value.items():
                if not text.strip():
                    raise ValueError("the empty prompt is the mixture of all others; give means for prompts with words")
                if mean == ():
                    raise ValueError(f"{text!r}: the list is empty; give one component or more")
                if isinstance(mean, tuple) and not isinstance(mean[0], Component) and not all(0 <= part <= 1 for part in mean):
                    raise ValueError(f"{text!r}: {list(mean)} must have three numbers in [0, 1]")
            return value

        @model_validator(mode="after")
        def _sizes(self) -> Gaussian.Config:
            size = 3 * self.resolution**2
            for text, components in self.mixtures().items():
                for rows in (len(part.covariance) for part in components if part.covariance is not None):
                    if rows != 3 and (rows != size or size > LARGEST):
                        full = f" or {size} x {size}" if size <= LARGEST else f"; {size} x {size} would be too large"
                        raise ValueError(f"means: {text!r}: covariance is {rows} x {rows}; it must be 3 x 3{full}")
            return self

        def mixtures(self) -> dict[str, tuple[Component, ...]]:
            """Returns `means`, each as a tuple of components."""
            return {text: _components(mean) for text, mean in self.means.items()}

        def check_files(self) -> None:
            """Reads the images among the means."""
            for part in (one for components in self.mixtures().values() for one in components):
                _mean_image(part.mean, 1)

    config: Gaussian.Config

    @classmethod
    def provides(cls, config: Gaussian.Config) -> frozenset[str]:
        """It predicts noise, reads the texts it was given, and can be adapted."""
        return frozenset({"noise-prediction", "text", "adapter"})

    @classmethod
    def side(cls, config: Gaussian.Config) -> int | None:
        """Returns the configuration's `resolution`."""
        return config.resolution

    @classmethod
    def check_prompt(cls, config: Gaussian.Config, text: str, negative: bool = False) -> Sequence[str]:
        """Raises PromptError for a text without means. A prompter may add words to it, so the beginning of a prompt is enough."""
        if text and not any(known.startswith(text) for known in config.means):
            _known(config, text)
        return ()

    def __init__(self, config: Gaussian.Config) -> None:
        super().__init__()
        self.config = config
        beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        self.schedule = NoiseSchedule.from_alphas_cumprod((1 - beta).cumprod(0))
        self.space: Literal["pixel", "latent"] = "pixel"
        self.resolution = self.latent_resolution = config.resolution
        self.channels = 3
        mixtures = config.mixtures()
        self.texts = tuple(mixtures)
        ends = list(accumulate(len(parts) for parts in mixtures.values()))
        self._span = {text: (end - len(parts), end) for (text, parts), end in zip(mixtures.items(), ends, strict=True)}
        self._exact = _exact(config)
        self.means: Tensor  # (K, 3, h, h)
        self.axes: Tensor  # (K, n, n): rows are the eigenvectors of the covariances
        self.variances: Tensor  # (K, n): their eigenvalues
        for name, value in self._exact.items():
            self.register_buffer(name, value.float(), persistent=False)

    def renew(self) -> bool:
        """Returns True: it remembers nothing."""
        return True

    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        """Returns the probabilities (B, 1, K) of the components: a known prompt's own, or the even mixture of all for "".

        Raises PromptError if a text is neither.
        """
        distinct = list(dict.fromkeys(texts))
        table = torch.stack([self._probabilities(text) for text in distinct]).to(self.means)
        place = {text: row for row, text in enumerate(distinct)}
        rows = torch.tensor([place[text] for text in texts], device=table.device)
        return Conditioning(table[rows][:, None])

    def _probabilities(self, text: str) -> Tensor:
        if not text:
            return torch.stack([self._share(known) for known in self.texts]).mean(0)
        return self._share(_known(self.config, text))

    def _share(self, text: str) -> Tensor:
        start, end = self._span[text]
        row = torch.zeros(len(self.means), dtype=torch.float64)
        row[start:end] = torch.tensor([part.weight for part in self.config.mixtures()[text]], dtype=torch.float64)
        return row / row.sum()

    def encode_image(self, image: Tensor) -> Tensor:
        """Maps images (B, 3, h, h) from [0, 1] to [-1, 1]."""
        return 2 * image - 1

    def decode_image(self, encoded: Tensor) -> Tensor:
        """Maps images (B, 3, h, h) from [-1, 1] to [0, 1], clipped."""
        return (encoded / 2 + 0.5).clamp(0, 1)

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns the ideal eps(z_t; y, t) (B, 3, h, h): -sigma_t times the score of the diffused density."""
        alpha_sigma = self.schedule.at(timestep, noisy)
        return ideal_noise(noisy, alpha_sigma, conditioning.embedding[:, 0], self.means, self.axes, self.variances)

    def adapter(self, rank: int, generator: torch.Generator) -> Adapter:
        """Makes the same formula with trainable means and standard deviations (`GaussianAdapter`). Ignores `rank`."""
        return GaussianAdapter(self.schedule, self.means, self.axes, self.variances)

    def mean_residual(self, clean: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor | None:
        """Returns sigma_t alpha_t (alpha_t^2 S + sigma_t^2 I)^-1 (z - mu) if each row of `conditioning` is one Gaussian.

        Otherwise it returns None: a mixture's prediction is not linear in the noise, and its mean has no closed form.
        """
        row = conditioning.embedding[:, 0]
        if not bool(((row > 0).sum(-1) == 1).all()):
            return None
        alpha, _ = self.schedule.at(timestep, clean)
        return self.predict(alpha * clean, timestep, conditioning)  # the prediction is linear in z_t, and E z_t = alpha z

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Gaussian:
        """Moves the schedule along with `.to(device)`. Takes float64 buffers from exact values, not from rounded ones."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in self._exact.items():
            setattr(self, name, value.to(dtype=self.means.dtype).to(self.means.device))
        self.schedule = self.schedule.to(self.means.device)
        return self


def _known(config: Gaussian.Config, text: str) -> str:
    """Returns the longest prompt with means that `text` is, or begins with before a comma. Raises PromptError."""
    known = [known for known in config.means if text == known or text.startswith(f"{known},")]
    if not known:
        raise PromptError(f"no mean for {text!r}; known: {', '.join(config.means)}. Add it to guidance.means")
    return max(known, key=len)


def _components(mean: Colour | str | Component | tuple[Component, ...]) -> tuple[Component, ...]:
    """Returns a prompt's mixture as components, in whatever form it was written."""
    if isinstance(mean, Component):
        return (mean,)
    if isinstance(mean, tuple) and isinstance(mean[0], Component):
        return tuple(part for part in mean if isinstance(part, Component))
    return (Component.model_validate({"mean": mean}),)


def _exact(config: Gaussian.Config) -> dict[str, Tensor]:
    """Returns means (K, 3, h, h), axes (K, n, n) and variances (K, n) of all components, float64."""
    parts = [part for mixture in config.mixtures().values() for part in mixture]
    size = 3 * config.resolution**2
    full = any(part.covariance is not None and len(part.covariance) == size for part in parts)
    spectra = [_spectrum(part, config.std) for part in parts]
    if full:  # all components need one size, so 3 x 3 matrices are extended to all numbers
        eye = torch.eye(config.resolution**2, dtype=torch.float64)
        spectra = [
            (values, axes) if len(values) == size else (values.repeat_interleave(len(eye)), torch.kron(axes, eye))
            for values, axes in spectra
        ]
    return {
        "means": torch.stack([2 * _mean_image(part.mean, config.resolution) - 1 for part in parts]),
        "axes": torch.stack([axes for _, axes in spectra]),
        "variances": torch.stack([values for values, _ in spectra]),
    }


def _spectrum(part: Component, std: float) -> tuple[Tensor, Tensor]:
    """Returns the eigenvalues (n,) and, as rows, the eigenvectors (n, n) of a component's covariance."""
    if part.covariance is None:
        return torch.full((3,), (part.std or std) ** 2, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(torch.tensor(part.covariance, dtype=torch.float64))
    return values, vectors.T


def _mean_image(mean: Colour | str, side: int) -> Tensor:
    """Returns (3, side, side) in [0, 1], float64, from a colour or an image file. Raises GuidanceError if it cannot be read."""
    if not isinstance(mean, str):
        return torch.tensor(mean, dtype=torch.float64)[:, None, None].expand(3, side, side)
    path = Path(mean)
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), dtype=np.float64)
    except OSError as error:
        raise GuidanceError(f"guidance.means: cannot read the image {str(path)!r}: {error}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255
