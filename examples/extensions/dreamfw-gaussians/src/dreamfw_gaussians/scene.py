"""A scene of 3D Gaussians: their parameters, where they start, and their file. 3DGS (Kerbl et al. 2023), section 4.

Legend: N Gaussians.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from dfw import ComponentConfig, Geometry

from .cloud import FEATURE, Cloud
from .ply import write_ply
from .projection import rotation_matrices
from .solid import Solid

DEAD = 0.005
"""A Gaussian of this opacity or less is dead. 3DGS, section 5.2; Kheradmand et al. 2024, section 3.3."""
UNUSED = 0.001
"""Opacity of a slot that is not in use: below 1/255, so never drawn."""

Fraction = Annotated[float, Field(ge=0, le=1)]


class Schedule(ComponentConfig):
    """When the number of Gaussians may change."""

    every: PositiveInt
    """Steps between changes."""
    start: Fraction = 0.1
    """Fraction of the run before which none happens."""
    end: Fraction = 0.8
    """Fraction of the run after which none happens."""

    @model_validator(mode="after")
    def _ordered(self) -> Schedule:
        if self.end < self.start:
            raise ValueError(f"end ({self.end:g}) lies before start ({self.start:g}); write start <= end")
        return self

    def due(self, step: int, fraction: float) -> bool:
        """Whether a change happens in this step, which lies at this fraction of the run. Never in step 0."""
        return step > 0 and step % self.every == 0 and self.start <= fraction <= self.end


class GaussianScene(Geometry):
    """Anisotropic Gaussians with an opacity and a colour each. A subclass decides how their number changes. Feature `gaussians`.

    Parameter groups: geometry.means, geometry.scales, geometry.rotations, geometry.opacities, geometry.colours.
    """

    class Config(ComponentConfig):
        """How many Gaussians, and where they start."""

        capacity: PositiveInt = 4000
        """The most Gaussians there can be."""
        initial: PositiveInt = 1000
        """Gaussians at the start."""
        radius: PositiveFloat = 0.6
        """Radius of the ball the first Gaussians are spread in, world units."""
        bound: PositiveFloat = 1.1
        """Gaussians whose centre lies further from the origin than this are dead, world units."""
        opacity: Annotated[float, Field(gt=DEAD, lt=1)] = 0.1
        """Opacity of the first Gaussians."""

        @model_validator(mode="after")
        def _check(self) -> GaussianScene.Config:
            if self.initial > self.capacity:
                raise ValueError(f"initial: {self.initial} Gaussians do not fit into capacity: {self.capacity}")
            if self.radius > self.bound:
                raise ValueError(f"radius: {self.radius:g} is beyond bound: {self.bound:g}, where Gaussians are dead")
            return self

    config: Config

    def __init__(self, config: Config, rows: int) -> None:
        """`rows` rows of parameters, none of them in use."""
        super().__init__()
        self.config = config
        self.means = nn.Parameter(torch.zeros(rows, 3))
        self.scales = nn.Parameter(torch.zeros(rows, 3))
        self.rotations = nn.Parameter(torch.tensor([1.0, 0, 0, 0]).repeat(rows, 1))
        self.opacities = nn.Parameter(torch.full((rows,), math.log(UNUSED / (1 - UNUSED))))
        self.colours = nn.Parameter(torch.zeros(rows, 3))

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """A cloud of Gaussians."""
        return frozenset({FEATURE})

    def initialise(self, generator: torch.Generator) -> None:
        """Places the first Gaussians uniform in a ball, round, as large as they are apart; colours near grey."""
        config, count = self.config, self.config.initial

        def draw(*shape: int) -> Tensor:
            normal: Tensor = torch.randn(*shape, generator=generator, device=generator.device).to(self.means)
            return normal

        direction = F.normalize(draw(count, 3), dim=-1)
        reach = torch.rand(count, 1, generator=generator, device=generator.device).to(self.means) ** (1 / 3)
        apart = config.radius * (4 / 3 * math.pi / count) ** (1 / 3)
        with torch.no_grad():
            self.means[:count] = config.radius * reach * direction
            self.scales.fill_(math.log(apart))
            self.opacities[:count] = math.log(config.opacity / (1 - config.opacity))
            self.colours[:count] = 0.1 * draw(count, 3)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """One group for each kind of number."""
        return {f"geometry.{name}": [parameter] for name, parameter in self.named_parameters()}

    def cloud(self) -> Cloud:
        """All N Gaussians: scales by exp, rotations normalised, opacities and colours by the sigmoid."""
        return Cloud(
            self.means,
            self.scales.exp(),
            F.normalize(self.rotations, dim=-1),
            torch.sigmoid(self.opacities),
            torch.sigmoid(self.colours),
        )

    @torch.no_grad()
    def dead(self) -> Tensor:
        """(N,) which Gaussians are not worth keeping: too faint, or out of bounds."""
        outside: Tensor = self.means.norm(dim=-1) > self.config.bound
        return outside | (torch.sigmoid(self.opacities) <= DEAD)

    @torch.no_grad()
    def offsets(self, rows: Tensor, drawn: Tensor) -> Tensor:
        """Places in the rows' own distributions, relative to their centres (K, 3), from standard normal deviates (K, 3)."""
        turn = rotation_matrices(F.normalize(self.rotations[rows], dim=-1))
        return torch.einsum("nij,nj->ni", turn, self.scales[rows].exp() * drawn.to(self.means))

    def export_assets(self, folder: Path) -> dict[str, Path]:
        """The Gaussians that are not dead as gaussians.ply, in the layout that splat viewers open."""
        return {"gaussians": write_ply(self.living(), folder / "gaussians.ply")}

    def living(self) -> Cloud:
        """The Gaussians that are not dead."""
        cloud, keep = self.cloud(), ~self.dead()
        return Cloud(cloud.mean[keep], cloud.scale[keep], cloud.rotation[keep], cloud.opacity[keep], cloud.colour[keep])

    def density_field(self) -> Solid:
        """The Gaussians that are not dead as a density, of which exports make a mesh."""
        return Solid(self.living(), self.config.bound)
