"""A radiance field of a guidance's latents, with a linear layer from latents to colours. Latent-NeRF (Metzer et al. 2023).

Legend: C latents, N points.
"""

from __future__ import annotations

import torch
from pydantic import model_validator
from torch import Tensor, nn

from dfw import LatentField

from .nerf import NeRF

Colour = tuple[float, float, float]

STABLE_DIFFUSION: tuple[Colour, ...] = (
    (0.149, 0.1035, 0.104),
    (0.0935, 0.143, 0.0865),
    (-0.079, 0.0945, 0.132),
    (-0.092, -0.1355, -0.2365),
    (0.5, 0.5, 0.5),
)
"""Colours of the latents of Stable Diffusion 1 and 2: half of the authors' matrix, since theirs makes colours in [-1, 1]."""


class LatentNeRF(NeRF, LatentField):
    """A density and C latents over the cube |x|_inf <= radius; otherwise as `nerf`.

    The latents are the colour network's outputs, unbounded. A loss with `of: latents` gives them to the guidance without an
    encoder. The albedo, which previews and exports show, is a linear function of the latents. Its factors are parameters of the
    group `geometry.colours`. A loss with `of: colour` trains them as well: the second stage of Latent-NeRF.
    """

    class Config(NeRF.Config):
        """What a field of latents is made of."""

        colours: tuple[Colour, ...] = STABLE_DIFFUSION
        """What one unit of each latent adds to red, green and blue, one row for each. The last row is the colour where all
        latents are 0. By default those of Stable Diffusion 1 and 2."""
        flat_latents: tuple[tuple[float, ...], ...] | None = None
        """What red, green and blue add to the latents of an even picture, one row for each. The last row has the latents of
        black. It gives a background its latents. By default the pseudo-inverse of `colours`."""

        @model_validator(mode="after")
        def _fit(self) -> LatentNeRF.Config:
            count = len(self.colours) - 1
            if count < 1:
                raise ValueError("colours: needs a row for each latent, and a last one for latents of 0")
            if self.flat_latents is not None and [len(row) for row in self.flat_latents] != [count] * 4:
                raise ValueError(f"flat_latents: needs 4 rows (red, green, blue, black) of {count}, one for each latent")
            return self

    config: Config
    flat: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config, len(config.colours) - 1)
        colours = torch.tensor(config.colours)
        self.colours = nn.Parameter(colours)
        self.register_buffer("flat", _inverse(colours) if config.flat_latents is None else torch.tensor(config.flat_latents))

    @classmethod
    def provides(cls, config: NeRF.Config) -> frozenset[str]:
        """Provides density and albedo over space, and latents."""
        return frozenset({"density-field", "latents"})

    def initialise(self, generator: torch.Generator) -> None:
        """As `nerf`; the colours are those of the configuration."""
        super().initialise(generator)
        with torch.no_grad():
            self.colours.copy_(torch.tensor(self.config.colours))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """`geometry.encoding`, `geometry.network`, and `geometry.colours` with the factors of the linear layer."""
        groups = super().parameter_groups()
        groups["geometry.network"] = [p for p in groups["geometry.network"] if p is not self.colours]
        return {**groups, "geometry.colours": [self.colours]}

    def latents_of(self, colour: Tensor) -> Tensor:
        """Returns latents (..., C) of even pictures of `colour` (..., 3)."""
        flat = self.flat.to(colour)
        return colour @ flat[:3] + flat[3]

    def _painted(self, colour: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The latents' colours, clamped to [0, 1] with a straight-through gradient, and the latents themselves."""
        colours = self.colours.to(colour)
        albedo = colour @ colours[:-1] + colours[-1]
        return albedo + (albedo.detach().clamp(0, 1) - albedo.detach()), {"latents": colour}


def _inverse(colours: Tensor) -> Tensor:
    """The smallest latents of each colour: rows (4, C) such that `colour @ rows[:3] + rows[3]` has that colour."""
    inverse = torch.linalg.pinv(colours[:-1])
    return torch.cat([inverse, -colours[-1:] @ inverse])
