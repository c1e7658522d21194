"""A scene of 3D Gaussians whose number follows the gradients: clone, split, prune. 3DGS (Kerbl et al. 2023), section 5.

Legend: N Gaussians, as many as there are now; K new ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from dfw import ComponentConfig, Geometry, Progress, Resized

from .cloud import FEATURE, Cloud
from .geometry import DEAD, Fraction, write_cloud
from .projection import rotation_matrices

SHRINK = 1.6
"""A split Gaussian's two parts are this much smaller. 3DGS, section 5.2."""
PARTS = 2
"""Parts of a split Gaussian."""


class DensityControl(ComponentConfig):
    """When Gaussians are added and removed, and which."""

    every: PositiveInt = 10
    """Steps between densifications."""
    start: Fraction = 0.1
    """Fraction of the run before which none happens."""
    end: Fraction = 0.8
    """Fraction of the run after which none happens."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the Gaussians that are cloned or split each time: those with the largest mean gradient of their place. 3DGS takes
    all above a threshold, which has to be found anew for every loss."""
    split: PositiveFloat = 0.2
    """A Gaussian whose largest standard deviation is above this is split in two; a smaller one is cloned. World units."""

    @model_validator(mode="after")
    def _ordered(self) -> DensityControl:
        if self.end < self.start:
            raise ValueError(f"end ({self.end:g}) lies before start ({self.start:g}); write start <= end")
        return self


class Adaptive(Geometry):
    """Anisotropic Gaussians with an opacity and a colour each, which are cloned, split and pruned. Feature `gaussians`.

    Parameter groups: geometry.means, geometry.scales, geometry.rotations, geometry.opacities, geometry.colours. Their number of
    rows changes; the optimiser's state of every Gaussian that stays is carried over, and new ones begin without, as in 3DGS.
    """

    class Config(ComponentConfig):
        """How many Gaussians, where they start, and how their number changes."""

        capacity: PositiveInt = 4000
        """The most Gaussians there can be."""
        initial: PositiveInt = 1000
        """Gaussians at the start."""
        radius: PositiveFloat = 0.6
        """Radius of the ball the first Gaussians are spread in, world units."""
        bound: PositiveFloat = 1.1
        """Gaussians whose centre lies further from the origin than this are removed, world units."""
        opacity: Annotated[float, Field(gt=DEAD, lt=1)] = 0.1
        """Opacity of the first Gaussians."""
        control: DensityControl = DensityControl()
        """Densification and pruning."""

        @model_validator(mode="after")
        def _check(self) -> Adaptive.Config:
            if self.initial > self.capacity:
                raise ValueError(f"initial: {self.initial} Gaussians do not fit into capacity: {self.capacity}")
            if self.radius > self.bound:
                raise ValueError(f"radius: {self.radius:g} is beyond bound: {self.bound:g}, where Gaussians are removed")
            return self

    config: Config
    pull: Tensor
    steps: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        count = config.initial
        self.means = nn.Parameter(torch.zeros(count, 3))
        self.scales = nn.Parameter(torch.zeros(count, 3))
        self.rotations = nn.Parameter(torch.tensor([1.0, 0, 0, 0]).repeat(count, 1))
        self.opacities = nn.Parameter(torch.zeros(count))
        self.colours = nn.Parameter(torch.zeros(count, 3))
        self.register_buffer("pull", torch.zeros(count))
        self.register_buffer("steps", torch.zeros(count))

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """A cloud of Gaussians."""
        return frozenset({FEATURE})

    def initialise(self, generator: torch.Generator) -> None:
        """Places uniform in a ball, round, as large as they are apart; colours near grey."""
        config, count = self.config, len(self.means)

        def draw(*shape: int) -> Tensor:
            normal: Tensor = torch.randn(*shape, generator=generator, device=generator.device).to(self.means)
            return normal

        direction = F.normalize(draw(count, 3), dim=-1)
        reach = torch.rand(count, 1, generator=generator, device=generator.device).to(self.means) ** (1 / 3)
        apart = config.radius * (4 / 3 * math.pi / count) ** (1 / 3)
        with torch.no_grad():
            self.means.copy_(config.radius * reach * direction)
            self.scales.fill_(math.log(apart))
            self.opacities.fill_(math.log(config.opacity / (1 - config.opacity)))
            self.colours.copy_(0.1 * draw(count, 3))

    def allocate(self, shapes: Mapping[str, torch.Size]) -> None:
        """As many Gaussians as the checkpoint has."""
        self.resize_rows(shapes)

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
    def end_step(self, progress: Progress, generator: torch.Generator) -> Sequence[Resized]:
        """Adds up the gradients of places; where it is due, clones and splits those that are pulled most, and prunes."""
        self.log("gaussians", len(self.means))
        if self.means.grad is not None:
            pull = self.means.grad.norm(dim=-1)
            self.pull += pull
            self.steps += pull > 0
        plan, step = self.config.control, progress.step
        if not step or step % plan.every or not plan.start <= progress.fraction <= plan.end:
            return ()
        return self.densify(generator)

    @torch.no_grad()
    def densify(self, generator: torch.Generator) -> Sequence[Resized]:
        """One round of adaptive density control. The number of Gaussians waits for the device; it happens every few steps."""
        kept = ~self.dead()
        room = self.config.capacity - int(kept.sum())
        chosen = self._pulled_most(kept, room)
        largest = self.scales.exp().amax(-1)
        split = chosen[largest[chosen] > self.config.control.split]
        clone = chosen[largest[chosen] <= self.config.control.split]
        kept[split] = False
        stay = kept.nonzero()[:, 0]
        source = torch.cat([clone, split.repeat(PARTS)])
        first = len(clone)
        old = {name: parameter.detach().clone() for name, parameter in self.named_parameters()}
        old["opacities"][chosen] = halved(old["opacities"][chosen])
        new = {name: values[source] for name, values in old.items()}
        new["means"][first:] += self._offsets(split.repeat(PARTS), generator)
        new["scales"][first:] -= math.log(SHRINK)
        index = torch.cat([stay, torch.full((len(source),), -1, device=stay.device)])
        for name in ("pull", "steps"):
            setattr(self, name, torch.zeros(len(index), device=stay.device))
        self.log("cloned", len(clone))
        self.log("split", len(split))
        return [Resized(parameter, torch.cat([old[name][stay], new[name]]), index) for name, parameter in self.named_parameters()]

    def _pulled_most(self, kept: Tensor, room: int) -> Tensor:
        """The rows to clone or split: a share of those that stay, by mean gradient, as many as there is room for."""
        mean = torch.where(kept, self.pull / self.steps.clamp_min(1), torch.full_like(self.pull, -1.0))
        count = min(room, int(self.config.control.share * int(kept.sum())))
        return mean.topk(max(count, 0)).indices

    def _offsets(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Places drawn from the rows' own distributions, relative to their centres (K, 3)."""
        drawn = torch.randn(len(rows), 3, generator=generator, device=generator.device).to(self.means)
        turn = rotation_matrices(F.normalize(self.rotations[rows], dim=-1))
        return torch.einsum("nij,nj->ni", turn, self.scales[rows].exp() * drawn)

    @torch.no_grad()
    def dead(self) -> Tensor:
        """(N,) which Gaussians are too faint, or out of bounds."""
        outside: Tensor = self.means.norm(dim=-1) > self.config.bound
        return outside | (torch.sigmoid(self.opacities) <= DEAD)

    def export_assets(self, folder: Path) -> dict[str, Path]:
        """The Gaussians as gaussians.ply, in the layout that splat viewers open."""
        return write_cloud(self.cloud(), ~self.dead(), folder)


def halved(logit: Tensor) -> Tensor:
    """Logits of the opacity of each of two Gaussians that together cover as much as one: 1 - sqrt(1 - o).

    3DGS gives both the old opacity, so that a cloned one suddenly covers more (Bulo et al. 2024, section 3.3).
    """
    light = torch.sigmoid(-logit)  # 1 - o
    return torch.logit(1 - light.sqrt(), eps=1e-6)
