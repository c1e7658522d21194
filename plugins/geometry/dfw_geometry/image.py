"""A plane of pixels or latents in place of a scene: tries any guidance and loss in 2D, in seconds.

Legend: P particles (independent planes), H, W their size, C channels.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor, nn

from dfw import ComponentConfig, ImagePlanes


class Image(ImagePlanes):
    """P planes of values that are the parameters themselves. Feature `image`.

    Pixels are clamped to [0, 1] straight through: the image is in range, and the gradient passes as if nothing were clamped, so
    that a pixel at the border can come back. Latents are unbounded.
    """

    class Config(ComponentConfig):
        """Size and start of the plane."""

        width: PositiveInt = 64
        """Values per row."""
        height: PositiveInt = 64
        """Rows."""
        space: Literal["pixel", "latent"] = "pixel"
        """`pixel`: colours in [0, 1]; `latent`: the guidance's own space, unbounded."""
        channels: PositiveInt | None = None
        """3 for pixels; 4 for latents if not given."""
        count: PositiveInt = 1
        """Independent planes (particles)."""
        mean: float | None = None
        """Mean of the initial values; 0.5 for pixels and 0 for latents if not given."""
        deviation: NonNegativeFloat | None = None
        """Standard deviation of the initial values; 0.1 for pixels and 1 for latents if not given."""

        @model_validator(mode="after")
        def _check(self) -> Image.Config:
            if self.space == "pixel" and self.channels not in (None, 3):
                raise ValueError(f"channels: {self.channels} for space: pixel; write 3, or space: latent")
            return self

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        channels = config.channels or (3 if config.space == "pixel" else 4)
        self.values = nn.Parameter(torch.zeros(config.count, config.height, config.width, channels))

    @classmethod
    def provides(cls, config: Config) -> frozenset[str]:
        """A plane of values."""
        return frozenset({"image"})

    @property
    def latent(self) -> bool:
        """Whether the values are in the guidance's latent space."""
        return self.config.space == "latent"

    def initialise(self, generator: torch.Generator) -> None:
        """Independent normal values with the configured mean and deviation."""
        pixel = self.config.space == "pixel"
        mean = self.config.mean if self.config.mean is not None else (0.5 if pixel else 0.0)
        deviation = self.config.deviation if self.config.deviation is not None else (0.1 if pixel else 1.0)
        values = torch.randn(self.values.shape, generator=generator, device=generator.device, dtype=torch.float32)
        with torch.no_grad():
            self.values.copy_(mean + deviation * values)

    def image(self, batch: int | None = None) -> Tensor:
        """The first `batch` planes, starting over when there are fewer, (B, H, W, C); all P if not given."""
        values: Tensor = self.values
        if batch is not None:
            index = torch.arange(batch, device=values.device) % values.shape[0]
            values = values[index]
        return values if self.latent else values + (values.detach().clamp(0, 1) - values.detach())

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """One group, `geometry`."""
        return {"geometry": [self.values]}
