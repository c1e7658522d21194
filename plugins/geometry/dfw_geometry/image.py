"""A plane of pixels or latents in place of a scene, to try any guidance and loss in 2D within seconds.

Legend: P particles (independent planes), H, W their size, C channels.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor, nn

from dfw import ComponentConfig, ImagePlanes


class Image(ImagePlanes):
    """P planes whose values are the parameters themselves. Provides `image`.

    Pixels are clamped to [0, 1] with a straight-through gradient. The image is in range, and a pixel at the border can come
    back. Latents are unbounded.
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
        """Channels; by default 3 for pixels and 4 for latents."""
        count: PositiveInt = 1
        """Independent planes (particles)."""
        mean: float | None = None
        """Mean of the initial values; by default 0.5 for pixels and 0 for latents."""
        deviation: NonNegativeFloat | None = None
        """Standard deviation of the initial values; by default 0.1 for pixels and 1 for latents."""

        @model_validator(mode="after")
        def _check(self) -> Image.Config:
            if self.space == "pixel" and self.channels not in (None, 3):
                raise ValueError(f"channels: pixels have 3 channels, not {self.channels}; write 3, or space: latent")
            return self

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        channels = config.channels or (3 if config.space == "pixel" else 4)
        self.values = nn.Parameter(torch.zeros(config.count, config.height, config.width, channels))

    @classmethod
    def provides(cls, config: Config) -> frozenset[str]:
        """Provides an image plane, and latents where it is made of them."""
        return frozenset({"image", "latents"} if config.space == "latent" else {"image"})

    @property
    def latent(self) -> bool:
        """Whether the values are in the guidance's latent space."""
        return self.config.space == "latent"

    def initialise(self, generator: torch.Generator) -> None:
        """Draws independent normal values with the configured mean and deviation."""
        pixel = self.config.space == "pixel"
        mean = self.config.mean if self.config.mean is not None else (0.5 if pixel else 0.0)
        deviation = self.config.deviation if self.config.deviation is not None else (0.1 if pixel else 1.0)
        values = torch.randn(self.values.shape, generator=generator, device=generator.device, dtype=torch.float32)
        with torch.no_grad():
            self.values.copy_(mean + deviation * values)

    def image(self, batch: int | None = None) -> Tensor:
        """Returns the first `batch` planes (B, H, W, C), repeated if there are fewer. Returns all P planes by default."""
        values: Tensor = self.values
        if batch is not None:
            index = torch.arange(batch, device=values.device) % values.shape[0]
            values = values[index]
        return values if self.latent else values + (values.detach().clamp(0, 1) - values.detach())

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Returns one group, `geometry`."""
        return {"geometry": [self.values]}
