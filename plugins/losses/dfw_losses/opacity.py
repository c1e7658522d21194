"""Empty space should be empty: a penalty on the opacity of rays."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dfw import ComponentConfig, Loss, LossInputs


class Opacity(Loss):
    """mean over rays of sqrt(O^2 + 0.01), O the opacity of a ray. DreamFusion (Poole et al. 2023), appendix A.2."""

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
        """A scalar in [0.1, 1.005], smallest for an empty scene."""
        return (inputs.render.opacity.square() + 0.01).sqrt().mean()
