"""A signed distance has slope 1: a penalty on the length of its gradient."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dfw import ComponentConfig, ConfigError, Loss, LossInputs


class Eikonal(Loss):
    """Mean over the samples of all rays of (|grad f| - 1)^2, f the signed distance. Gropp et al. (2020), eq. 2.

    The points are those of the rendering, as in NeuS (Wang et al. 2021): near the surface, where f matters.
    """

    class Config(ComponentConfig):
        """Nothing to choose; the weight belongs to the run."""

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """Samples along the rays of a signed distance, in steps that compute its gradient."""
        return frozenset({"ray-samples", "normals", "signed-distance"})

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar >= 0, 0 without samples. Raises ConfigError for samples without `gradient`, |grad f| (N, 1), in `extras`."""
        samples = inputs.render.samples
        if samples is None or "gradient" not in samples.extras:
            raise ConfigError(
                "the loss 'eikonal' needs the distance's gradient at samples of the rays, and the renderer gave none; "
                "use a volume renderer with normals"
            )
        gradient = samples.extras["gradient"]
        return (gradient - 1).square().sum() / max(gradient.numel(), 1)
