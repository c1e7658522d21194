"""A ray should hit or miss: the binary entropy of opacity."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dfw import ComponentConfig, Loss, LossInputs

_MARGIN = 1e-5
"""Opacities closer than this to 0 or 1 count as decided: no gradient, no infinity."""


class Entropy(Loss):
    """mean over rays of -O log2 O - (1 - O) log2 (1 - O), in bits: 1 for half transparent rays, 0 for decided ones."""

    class Config(ComponentConfig):
        """Nothing to choose; the weight belongs to the run."""

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """The opacity of each pixel."""
        return frozenset({"opacity"})

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar in [0, 1]; its gradient pushes opacities above a half to 1 and those below to 0."""
        opacity = inputs.render.opacity.clamp(_MARGIN, 1 - _MARGIN)
        return -(opacity * opacity.log2() + (1 - opacity) * (1 - opacity).log2()).mean()
