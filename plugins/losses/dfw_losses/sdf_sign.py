"""No parts inside or around a shape that nothing sees: a penalty on changes of sign in a grid."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dfw import ComponentConfig, ConfigError, Loss, LossInputs

from .surface import SignedGrid


class SdfSign(Loss):
    """mean over edges that the surface crosses of H(sigmoid(s_i), sign(s_j)) + H(sigmoid(s_j), sign(s_i)), H the cross entropy.

    s are the values at an edge's ends, world units; sign counts as 1 outside and 0 inside. Munkberg et al. 2022, eq. 2. On a
    surface that is pulled from elsewhere both sides balance; shells and floaters, which nothing pulls, close up.
    """

    class Config(ComponentConfig):
        """Nothing to choose; the weight belongs to the run."""

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """Signed values on a grid: a geometry with `crossings() -> (K, 2)`, the values at the ends of each crossed edge."""
        return frozenset({"signed-grid"})

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar of at least 2 log 2 = 1.386, which is that of values near 0; 0 without a crossed edge."""
        if not isinstance(inputs.geometry, SignedGrid):
            who = type(inputs.geometry).__name__
            raise ConfigError(f"the loss 'sdf-sign' asks the geometry for crossings(), and {who} has none")
        ends = inputs.geometry.crossings()
        other = (ends.detach().flip(1) >= 0).to(ends)
        return F.binary_cross_entropy_with_logits(ends, other, reduction="sum") / max(len(ends), 1)
