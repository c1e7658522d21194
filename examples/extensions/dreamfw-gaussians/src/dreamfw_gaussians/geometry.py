"""A scene of 3D Gaussians: their parameters, how many there are, and their file. 3DGS (Kerbl et al. 2023), section 4.

Legend: N Gaussians, the capacity. Slots not in use yet are Gaussians too faint to be drawn; they have no gradient.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from dfw import ComponentConfig, Geometry, Progress

from .cloud import FEATURE, Cloud
from .ply import write_ply
from .projection import rotation_matrices
from .relocation import MOST, choose_hosts, shared

DEAD = 0.005
"""A Gaussian of this opacity or less is dead. 3DGS, section 5.2; Kheradmand et al. 2024, section 3.3."""
UNUSED = 0.001
"""Opacity of a slot that is not in use: below 1/255, so never drawn."""
_SURE = 1e-6  # logits are taken of opacities at least this far from 0 and 1

Fraction = Annotated[float, Field(ge=0, le=1)]


class RelocationConfig(ComponentConfig):
    """Pruning and growth: dead Gaussians move onto live ones, and the number of live ones grows to the capacity."""

    every: PositiveInt = 20
    """Steps between relocations."""
    start: Fraction = 0.1
    """Fraction of the run before which none is relocated."""
    end: Fraction = 0.8
    """Fraction of the run after which none is relocated."""
    growth: Annotated[float, Field(ge=1, le=2)] = 1.2
    """How many times as many live Gaussians as before each relocation there may be after it; 1: as many."""
    spread: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How far a moved Gaussian lands from its host, as a normal deviate in the Gaussian's own standard deviations; 0: on it."""

    @model_validator(mode="after")
    def _ordered(self) -> RelocationConfig:
        if self.end < self.start:
            raise ValueError(f"end ({self.end:g}) lies before start ({self.start:g}); write start <= end")
        return self


class Gaussians(Geometry):
    """N anisotropic Gaussians with an opacity and a colour each, in fixed slots. Feature `gaussians`.

    Parameter groups: geometry.means, geometry.scales, geometry.rotations, geometry.opacities, geometry.colours.
    """

    class Config(ComponentConfig):
        """How many Gaussians, where they start, and how their number grows."""

        capacity: PositiveInt = 4000
        """Slots: the most Gaussians there can be."""
        initial: PositiveInt = 1000
        """Gaussians at the start."""
        radius: PositiveFloat = 0.6
        """Radius of the ball the first Gaussians are spread in, world units."""
        bound: PositiveFloat = 1.1
        """Gaussians whose centre lies further from the origin than this are dead, world units."""
        opacity: Annotated[float, Field(gt=DEAD, lt=1)] = 0.1
        """Opacity of the first Gaussians."""
        relocation: RelocationConfig = RelocationConfig()
        """Pruning and growth."""

        @model_validator(mode="after")
        def _check(self) -> Gaussians.Config:
            if self.initial > self.capacity:
                raise ValueError(f"initial: {self.initial} Gaussians do not fit into capacity: {self.capacity}")
            if self.radius > self.bound:
                raise ValueError(f"radius: {self.radius:g} is beyond bound: {self.bound:g}, where Gaussians are dead")
            return self

    config: Config
    live: Tensor
    random_state: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        count = config.capacity
        self.means = nn.Parameter(torch.zeros(count, 3))
        self.scales = nn.Parameter(torch.zeros(count, 3))
        self.rotations = nn.Parameter(torch.tensor([1.0, 0, 0, 0]).repeat(count, 1))
        self.opacities = nn.Parameter(torch.full((count,), math.log(UNUSED / (1 - UNUSED))))
        self.colours = nn.Parameter(torch.zeros(count, 3))
        self.register_buffer("live", torch.tensor(config.initial))
        self.register_buffer("random_state", torch.Generator().get_state())

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """A cloud of Gaussians."""
        return frozenset({FEATURE})

    def initialise(self, generator: torch.Generator) -> None:
        """Places uniform in a ball, round, as large as they are apart; colours near grey. Seeds the geometry's own generator."""
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
        seed = torch.randint(2**62, (), generator=generator, device=generator.device)
        self.random_state.copy_(torch.Generator().manual_seed(int(seed)).get_state())

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

    def dead(self) -> Tensor:
        """(N,) which slots hold no Gaussian worth keeping: too faint, or out of bounds."""
        with torch.no_grad():
            outside: Tensor = self.means.norm(dim=-1) > self.config.bound
            return outside | (torch.sigmoid(self.opacities) <= DEAD)

    def begin_step(self, progress: Progress, generator: torch.Generator) -> None:
        """Relocates where it is due; `progress` alone decides, so that a resumed run does the same."""
        plan = self.config.relocation
        if progress.step and progress.step % plan.every == 0 and plan.start <= progress.fraction <= plan.end:
            self.relocate()

    @torch.no_grad()
    def relocate(self) -> int:
        """Lets the number of live Gaussians grow, and moves dead ones onto live ones to reach it. Returns how many moved.

        Kheradmand et al. 2024, section 3.3, but for the places: moved Gaussians are drawn from the host's own distribution, as
        3DGS splits (section 5.2). The optimiser's moments stay with their slots; a dead slot's have decayed, it had no gradient.
        """
        generator = torch.Generator()
        generator.set_state(self.random_state.cpu())
        wanted = min(self.config.capacity, math.ceil(int(self.live) * self.config.relocation.growth))
        opacity = torch.sigmoid(self.opacities.double()).cpu()
        moved, host = choose_hosts(opacity, self.dead().cpu(), wanted, generator)
        offset = torch.randn(len(moved), 3, generator=generator)
        self.random_state.copy_(generator.get_state())
        if len(moved):
            self.live.fill_(wanted)
            self._share(opacity, moved, host, offset)
        return len(moved)

    def _share(self, opacity: Tensor, moved: Tensor, host: Tensor, offset: Tensor) -> None:
        """Gives rows `moved` (K,) what rows `host` have, and both their share of it. `opacity` (N,), float64, on the CPU."""
        hosts, copies = torch.unique(host, return_counts=True)
        fresh, factor = shared(opacity[hosts].clamp(_SURE, 1 - _SURE), (copies + 1).clamp_max(MOST))
        hosts, moved, host = (rows.to(self.means.device) for rows in (hosts, moved, host))
        self.opacities[hosts] = torch.logit(fresh, eps=_SURE).to(self.opacities)
        self.scales[hosts] += factor.log().to(self.scales)[:, None]
        for parameter in self.parameters():
            parameter[moved] = parameter[host]
        turn = rotation_matrices(F.normalize(self.rotations[moved], dim=-1))
        away = self.config.relocation.spread * self.scales[moved].exp() * offset.to(self.means)
        self.means[moved] += torch.einsum("nij,nj->ni", turn, away)

    def export_assets(self, folder: Path) -> dict[str, Path]:
        """The live Gaussians as gaussians.ply, in the layout that splat viewers open."""
        return write_cloud(self.cloud(), ~self.dead(), folder)


def write_cloud(cloud: Cloud, keep: Tensor, folder: Path) -> dict[str, Path]:
    """The Gaussians `keep` (N,) of a cloud as gaussians.ply in `folder`."""
    chosen = Cloud(cloud.mean[keep], cloud.scale[keep], cloud.rotation[keep], cloud.opacity[keep], cloud.colour[keep])
    return {"gaussians": write_ply(chosen, folder / "gaussians.ply")}
