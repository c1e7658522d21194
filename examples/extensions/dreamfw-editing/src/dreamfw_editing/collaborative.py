"""Collaborative score distillation: the views of a batch share what the prior says of each of them."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from dfw import LossInputs, Query
from dreamfw_editing.source import Edit, EditConfig


class Collaborative(Edit):
    """d loss / d z_i = w(t) / B sum_j [k(z_j, z_i) delta_j + grad_{z_i} k(z_j, z_i)], delta as in DDS.

    Stein variational gradient descent (Liu and Wang 2016) with the kernel exp(-|z_j - z_i|^2 / h), h the median of the squared
    distances over log B. Similar views move together, and the second term keeps them apart. One t for all views of a batch, so
    that the deltas may be added. Collaborative score distillation (Kim et al. 2023), eq. 8.
    """

    class Config(EditConfig):
        """Timesteps, weight, guidance and the source's prompt."""

    config: Config

    def query(self, encoded: Tensor, inputs: LossInputs) -> Query:
        """As `Distillation`, with the first view's timestep for all."""
        drawn = super().query(encoded, inputs)
        return replace(drawn, timestep=drawn.timestep[:1].expand_as(drawn.timestep))

    def direction(self, query: Query) -> Tensor:
        """The kernel's mixture of what each view is told."""
        ours, theirs = self.both(query, self.source(query.inputs))
        return stein(query.clean, ours - theirs)


def stein(views: Tensor, delta: Tensor) -> Tensor:
    """1/B sum_j [k_ji delta_j - 2/h (z_i - z_j) k_ji] for `views` z (B, ...) and `delta` (B, ...); delta itself for one view."""
    count, flat = len(views), views.flatten(1)
    if count == 1:
        return delta
    squared = torch.cdist(flat, flat).square()
    apart = ~torch.eye(count, dtype=torch.bool, device=views.device)
    median = squared[apart].median()
    bandwidth = torch.where(median > 0, median, 1.0) / math.log(count)  # any will do where the views are the same
    kernel = torch.exp(-squared / bandwidth)
    repelled = 2 / bandwidth * (kernel.sum(0)[:, None] * flat - kernel @ flat)
    return ((kernel @ delta.flatten(1) - repelled) / count).view_as(delta)
