"""A scene of 3D Gaussians whose number follows the gradients: clone, split, prune. 3DGS (Kerbl et al. 2023), section 5.

Legend: N Gaussians, as many as there are now; K new ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from dfw import Progress, Resized

from .scene import GaussianScene, Schedule

SHRINK = 1.6
"""A split Gaussian's two parts are this much smaller. 3DGS, section 5.2."""
PARTS = 2
"""Parts of a split Gaussian."""


class DensityControl(Schedule):
    """When Gaussians are added and removed, and which."""

    every: PositiveInt = 10
    """Steps between densifications."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the Gaussians that are cloned or split each time: those with the largest mean gradient of their place. 3DGS takes
    all above a threshold, which has to be found anew for every loss."""
    split: PositiveFloat = 0.2
    """A Gaussian whose largest standard deviation is above this is split in two; a smaller one is cloned. World units."""


class Adaptive(GaussianScene):
    """Anisotropic Gaussians with an opacity and a colour each, which are cloned, split and pruned. Feature `gaussians`.

    Parameter groups: geometry.means, geometry.scales, geometry.rotations, geometry.opacities, geometry.colours. Their number of
    rows changes; the optimiser's state of every Gaussian that stays is carried over, and new ones begin without, as in 3DGS.
    """

    class Config(GaussianScene.Config):
        """How many Gaussians, where they start, and how their number changes."""

        control: DensityControl = DensityControl()
        """Densification and pruning."""

    config: Config
    pull: Tensor
    steps: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config, config.initial)
        self.register_buffer("pull", torch.zeros(config.initial))
        self.register_buffer("steps", torch.zeros(config.initial))

    def allocate(self, shapes: Mapping[str, torch.Size]) -> None:
        """As many Gaussians as the checkpoint has."""
        self.resize_rows(shapes)

    @torch.no_grad()
    def end_step(self, progress: Progress, generator: torch.Generator) -> Sequence[Resized]:
        """Adds up the gradients of places; where it is due, clones and splits those that are pulled most, and prunes."""
        self.log("gaussians", len(self.means))
        if self.means.grad is not None:
            pull = self.means.grad.norm(dim=-1)
            self.pull += pull
            self.steps += pull > 0
        return self.densify(generator) if self.config.control.due(progress.step, progress.fraction) else ()

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
        parts = split.repeat(PARTS)
        source = torch.cat([clone, parts])
        first = len(clone)
        old = {name: parameter.detach().clone() for name, parameter in self.named_parameters()}
        old["opacities"][chosen] = halved(old["opacities"][chosen])
        new = {name: values[source] for name, values in old.items()}
        drawn = torch.randn(len(parts), 3, generator=generator, device=generator.device)
        new["means"][first:] += self.offsets(parts, drawn)
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


def halved(logit: Tensor) -> Tensor:
    """Logits of the opacity of each of two Gaussians that together cover as much as one: 1 - sqrt(1 - o).

    3DGS gives both the old opacity, so that a cloned one suddenly covers more (Bulo et al. 2024, section 3.3).
    """
    light = torch.sigmoid(-logit)  # 1 - o
    return torch.logit(1 - light.sqrt(), eps=1e-6)
