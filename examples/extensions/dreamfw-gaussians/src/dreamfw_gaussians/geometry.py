"""Gaussians in fixed slots: dead ones move onto live ones, and the number of live ones grows. Kheradmand et al. 2024.

Legend: N slots, the capacity. Slots not in use yet are Gaussians too faint to be drawn; they have no gradient.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from dfw import Progress

from .relocation import MOST, choose_hosts, shared
from .scene import GaussianScene, Schedule

_SURE = 1e-6  # logits are taken of opacities at least this far from 0 and 1


class RelocationConfig(Schedule):
    """Pruning and growth: dead Gaussians move onto live ones, and the number of live ones grows to the capacity."""

    every: PositiveInt = 20
    """Steps between relocations."""
    growth: Annotated[float, Field(ge=1, le=2)] = 1.2
    """How many times as many live Gaussians as before each relocation there may be after it; 1: as many."""
    spread: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How far a moved Gaussian lands from its host, as a normal deviate in the Gaussian's own standard deviations; 0: on it."""


class Gaussians(GaussianScene):
    """N anisotropic Gaussians with an opacity and a colour each, in fixed slots. Feature `gaussians`.

    Parameter groups: geometry.means, geometry.scales, geometry.rotations, geometry.opacities, geometry.colours.
    """

    class Config(GaussianScene.Config):
        """How many Gaussians, where they start, and how their number grows."""

        relocation: RelocationConfig = RelocationConfig()
        """Pruning and growth."""

    config: Config
    live: Tensor
    random_state: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config, config.capacity)
        self.register_buffer("live", torch.tensor(config.initial))
        self.register_buffer("random_state", torch.Generator().get_state())

    def initialise(self, generator: torch.Generator) -> None:
        """Places the first Gaussians, and seeds the geometry's own generator."""
        super().initialise(generator)
        seed = torch.randint(2**62, (), generator=generator, device=generator.device)
        self.random_state.copy_(torch.Generator().manual_seed(int(seed)).get_state())

    def begin_step(self, progress: Progress, generator: torch.Generator) -> None:
        """Relocates where it is due; `progress` alone decides, so that a resumed run does the same."""
        if self.config.relocation.due(progress.step, progress.fraction):
            self.relocate()

    @torch.no_grad()
    def relocate(self) -> int:
        """Lets the number of live Gaussians grow, and moves dead ones onto live ones to reach it. Returns how many moved.

        Kheradmand et al. 2024, section 3.3, except for the places: moved Gaussians are drawn from the host's own distribution, as
        3DGS splits (section 5.2). The optimiser's moments stay with their slots; a dead slot's have decayed, it had no gradient.
        """
        generator = torch.Generator()
        generator.set_state(self.random_state.cpu())
        wanted = min(self.config.capacity, math.ceil(int(self.live) * self.config.relocation.growth))
        opacity = torch.sigmoid(self.opacities.double()).cpu()
        moved, host = choose_hosts(opacity, self.dead().cpu(), wanted, generator)
        drawn = torch.randn(len(moved), 3, generator=generator)
        self.random_state.copy_(generator.get_state())
        if len(moved):
            self.live.fill_(wanted)
            self._share(opacity, moved, host, drawn)
        return len(moved)

    def _share(self, opacity: Tensor, moved: Tensor, host: Tensor, drawn: Tensor) -> None:
        """Gives rows `moved` (K,) what rows `host` have, and both their share of it. `opacity` (N,), float64, on the CPU."""
        hosts, copies = torch.unique(host, return_counts=True)
        fresh, factor = shared(opacity[hosts].clamp(_SURE, 1 - _SURE), (copies + 1).clamp_max(MOST))
        hosts, moved, host = (rows.to(self.means.device) for rows in (hosts, moved, host))
        self.opacities[hosts] = torch.logit(fresh, eps=_SURE).to(self.opacities)
        self.scales[hosts] += factor.log().to(self.scales)[:, None]
        for parameter in self.parameters():
            parameter[moved] = parameter[host]
        self.means[moved] += self.config.relocation.spread * self.offsets(moved, drawn)
